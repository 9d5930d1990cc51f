"""Networks made ready for inference on an x86 CPU: folded batch norms, and weights laid out as oneDNN wants them.

A linear layer of torch brings its weights into oneDNN's blocked layout on every call, or, in float32, asks MKL, which
was slow on a Zen 4, though not on a Zen 3. Laid out once, the same products run at the speed of the machine. What goes
through convolutions is channels last, and an activation that follows costs nothing. What is packed cannot learn more.
"""

import itertools

import torch
from torch import Tensor, nn

from everymask.networks.backbones.mix_transformer import MixFeedForward
from everymask.networks.eomt import UpscaleBlock
from everymask.networks.layers.conv_norm import FrozenBatchNorm
from everymask.networks.layers.feed_forward import FeedForward, GatedFeedForward
from everymask.networks.layers.patches import PatchConvolution, patches_of

_VECTORS = ("AVX2", "AVX512")
_OPERATORS = ("_reorder_linear_weight", "_linear_pointwise", "_convolution_pointwise")


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this machine and this build of torch have packed products in ``dtype``."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if torch.backends.cpu.get_cpu_capability() not in _VECTORS:
        return False
    if not all(hasattr(torch.ops.mkldnn, name) for name in _OPERATORS):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))


def fold_norms(network: nn.Module) -> None:
    """Folds every batch norm of a network in eval mode into the convolution before it, where both are in a Sequential.

    Best done before the network is cast to bfloat16: then the folded weights are rounded once.
    """
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            for before, after in zip(list(module), list(module)[1:], strict=False):
                if type(before) is nn.Conv2d and isinstance(after, nn.BatchNorm2d | FrozenBatchNorm):
                    _fold(before, after)
                    module[list(module).index(after)] = FoldedNorm(after)


def pack(network: nn.Module) -> None:
    """Replaces the linear layers and convolutions of ``network``, which must be where and what it computes in.

    Outputs stay the same but for rounding. A layer is packed where it is exactly an nn.Linear, an nn.Conv2d, a
    PatchConvolution or an nn.ConvTranspose2d that only enlarges; the activation behind it is fused where the two always
    follow each other. The plain weights are dropped layer by layer, so that there is never a second copy of them all.
    """
    children = [(name, child) for name, child in network.named_children() if not isinstance(child, nn.Identity)]
    activations = dict.fromkeys((name for name, _ in children), "none")
    if isinstance(network, _IN_ORDER):
        activations |= {name: _activation(behind) for (name, _), (_, behind) in itertools.pairwise(children)}
    fused = False
    for name, child in children:
        if fused:
            setattr(network, name, nn.Identity())
            fused = False
            continue
        packed = _packed(child, activations[name])
        if packed is None:
            pack(child)
        else:
            setattr(network, name, packed)
            fused = activations[name] != "none"


class FoldedNorm(nn.Identity):
    """Stands where a batch norm was, and keeps its parameters: they still are part of the network."""

    def __init__(self, norm: nn.BatchNorm2d | FrozenBatchNorm) -> None:
        super().__init__()
        self.norm = norm


class PackedLinear(nn.Module):
    """A linear layer with packed weights, then an activation: "none", "relu", "swish" or "gelu"."""

    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: str = "none") -> None:
        """``weight`` (outputs, inputs) and ``bias`` (outputs,) of the layer."""
        super().__init__()
        self.activation = activation
        self.packed = _frozen(torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None))
        _hold_bias(self, bias)

    @property
    def weight(self) -> Tensor:
        """(outputs, inputs), unpacked anew: for a module that does more with it than one product."""
        return self.packed.to_dense()

    def forward(self, features: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise(
            features, self.packed, self.bias, self.activation, [], _ALGORITHMS[self.activation]
        )
        return out


class FusedConvolution(nn.Module):
    """A convolution and the activation behind it in one operation; weights and what comes out are channels last.

    The weights are not packed: the layout that is fast depends on the size of the input, and the one that oneDNN
    chooses without knowing it takes ten times as long where it is wrong. Laid out anew on every call they cost 3 %.
    """

    bias: Tensor | None

    def __init__(self, convolution: nn.Conv2d, activation: str = "none") -> None:
        super().__init__()
        self.stride, self.padding = list(convolution.stride), [int(each) for each in convolution.padding]
        self.dilation, self.groups = list(convolution.dilation), convolution.groups
        self.activation = activation
        self.weight = _frozen(convolution.weight.contiguous(memory_format=torch.channels_last))
        _hold_bias(self, convolution.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, outputs, h', w')."""
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(
            features.contiguous(memory_format=torch.channels_last),
            self.weight,
            self.bias,
            self.padding,
            self.stride,
            self.dilation,
            self.groups,
            self.activation,
            [],
            _ALGORITHMS[self.activation],
        )
        return out


class PackedPatches(nn.Module):
    """A convolution over patches, see PatchConvolution, with packed weights, then an activation."""

    def __init__(self, convolution: PatchConvolution, activation: str = "none") -> None:
        super().__init__()
        self.patch = int(convolution.kernel_size[0])
        self.linear = PackedLinear(convolution.flat_weight, convolution.bias, activation)

    @property
    def weight(self) -> Tensor:
        """(outputs, inputs, patch, patch), unpacked anew."""
        out: Tensor = self.linear.weight.unflatten(1, (self.patch, self.patch, -1)).permute(0, 3, 1, 2)
        return out

    def forward(self, features: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, outputs, h // patch, w // patch)."""
        out: Tensor = self.linear(patches_of(features, self.patch)).permute(0, 3, 1, 2)
        return out


class PackedEnlargement(nn.Module):
    """A transposed convolution of which every place makes its own k x k places: a linear layer, and a new order."""

    def __init__(self, convolution: nn.ConvTranspose2d, activation: str = "none") -> None:
        super().__init__()
        self.kernel = int(convolution.kernel_size[0])
        self.bias = convolution.bias
        weight = convolution.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (k * k * outputs, inputs)
        bias = None if self.bias is None else self.bias.detach().repeat(self.kernel**2)
        self.linear = PackedLinear(weight, bias, activation)

    def forward(self, features: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, outputs, k h, k w)."""
        batch, _, height, width = features.shape
        kernel = self.kernel
        places = self.linear(features.permute(0, 2, 3, 1)).view(batch, height, width, kernel, kernel, -1)
        out: Tensor = places.transpose(2, 3).reshape(batch, kernel * height, kernel * width, -1).permute(0, 3, 1, 2)
        return out


# What oneDNN calls an activation, and which of its forms.
_ALGORITHMS = {"none": "", "relu": "", "swish": "", "gelu": "none"}

# In these modules an activation is applied to the child before it.
_IN_ORDER = (nn.Sequential, FeedForward, GatedFeedForward, MixFeedForward, UpscaleBlock)


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach(), requires_grad=False)


def _hold_bias(layer: nn.Module, bias: Tensor | None) -> None:
    """Gives ``layer`` its ``bias``: a parameter if it is one of the network, else a buffer, so that none is counted."""
    if isinstance(bias, nn.Parameter):
        layer.register_parameter("bias", _frozen(bias))
    else:
        layer.register_buffer("bias", bias)


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d | FrozenBatchNorm) -> None:
    """Makes norm(convolution(x)) the convolution alone."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    scale = norm.weight * torch.rsqrt(variance + norm.eps)  # (outputs,)
    shift = -mean if convolution.bias is None else convolution.bias - mean
    bias = (norm.bias + scale * shift).detach()
    convolution.weight = _frozen(convolution.weight * scale[:, None, None, None])
    if convolution.bias is None:
        del convolution.bias
        convolution.register_buffer("bias", bias)  # no parameter: there was none
    else:
        convolution.bias = _frozen(bias)


def _packed(layer: nn.Module, activation: str) -> nn.Module | None:
    """``layer`` with packed weights and ``activation`` behind it; None for a layer that is not packed."""
    if type(layer) is nn.Linear:
        return PackedLinear(layer.weight, layer.bias, activation)
    if type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        return FusedConvolution(layer, activation)
    if type(layer) is PatchConvolution:
        return PackedPatches(layer, activation)
    if type(layer) is nn.ConvTranspose2d and _only_enlarges(layer):
        return PackedEnlargement(layer, activation)
    return None


def _only_enlarges(layer: nn.ConvTranspose2d) -> bool:
    height, width = layer.kernel_size
    plain = layer.groups == 1 and not any((*layer.padding, *layer.output_padding))
    return plain and height == width and tuple(layer.stride) == (height, width) and tuple(layer.dilation) == (1, 1)


def _activation(module: nn.Module) -> str:
    """What oneDNN calls an activation; "none" for any other module."""
    if isinstance(module, nn.GELU) and module.approximate == "none":
        return "gelu"
    return "relu" if isinstance(module, nn.ReLU) else "swish" if isinstance(module, nn.SiLU) else "none"
