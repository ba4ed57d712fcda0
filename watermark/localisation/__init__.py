"""Which spans of a text are marked, and by whom: a search whose p-values pay for having been a search.

`windows` lists the family of windows, `probing` finds the codewords worth trying, `boundaries` places a span's two ends, and
`search` puts them together. Cost and memory grow linearly with the text.

What the p-value covers. For one window and one codeword the statistic is a Rademacher sum and its tail is exact
(`watermark.statistics.rademacher`). The union bound over all windows of the family x all codewords of the book makes it hold
for the smallest of them, however windows overlap. It also covers every shortcut: whichever pairs are looked at, they are some
of the pairs paid for. The ends of a span are an estimate; no p-value belongs to them. The whole text is no window: who tests it
as well does one test more, and splits the false-positive rate between the two.
"""
