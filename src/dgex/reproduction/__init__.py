"""The paper's grid, tables and figures on any Dataset."""
