"""How an analysis is told: in words, tables, Markdown, HTML and pictures."""
