"""Networks: attentions, parts, one skeleton, and the table of variants."""
