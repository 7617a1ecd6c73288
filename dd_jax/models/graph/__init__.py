"""Networks on graphs: what a network says of a node depends on its neighbours."""
