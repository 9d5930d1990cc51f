"""How fast a model is: engines and number types side by side, against what the machine itself can do."""
