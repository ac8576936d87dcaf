"""The monitor that the package brings, as a bundle; ``recipes/pocket`` says how it is made."""
