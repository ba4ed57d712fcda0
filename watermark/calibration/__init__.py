"""What unmarked and marked texts of known origin look like to the extractor, shipped with a checkpoint.

The exact p-value (`watermark.statistics`) holds for a key drawn at random. A key that is already drawn has its own luck: evidence of
human texts has a small mean direction in common, and a codeword that happens to point that way scores a little high on all of
them. A `Calibration` holds the evidence of some thousand unmarked texts, so that the null of any key is one matrix product:
`null` measures a codeword's shift and gives the safer of two p-values, `health` refuses keys whose corrected p-values are still too
small, `power` says what share of marks is found at a length. `prefixes` reads texts, `build` makes the file.
"""
