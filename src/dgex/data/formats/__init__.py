"""One format each: reading and writing matrices, behind `dgex.data.matrix`."""
