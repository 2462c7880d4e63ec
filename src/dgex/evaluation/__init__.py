"""How good the inference is: scores per gene, tables, figures and the report."""
