"""What a verification may claim, and why: a section to read before defending a verdict.

1  The hypothesis. H0, held against a text: "it was written without knowledge of the secret key". A codeword is n signs s_i = ±1; the
mask that it is made of comes from the secret by HMAC-SHA256 (Bellare, Canetti and Krawczyk, CRYPTO 1996: a pseudorandom function).
Whoever lacks the key cannot tell these signs from fair coin flips, so under H0 the text, and with it the evidence e ∈ R^n that the
extractor reads from it, is independent of s. Nothing is assumed of the text: not its language, length, topic or repetitions.

2  The exact p-value (`rademacher`). Given e, the statistic S = Σ s_i·e_i is a sum of fixed numbers with random signs, E S = 0,
Var S = |e|². Its tail P(S ≥ x | e) is computed, not fitted: by enumeration or by convolution on a grid, with the grid's error bracketed
and the upper end reported. Hoeffding's exp(-x²/2|e|²) (JASA 58:13, 1963) bounds it. A poor extractor costs power, never validity.

3  Trying many (`correction`). A verification tries U = issuers x nonces masks with 2^b payloads each and keeps the best. Masks are
independent: for them Šidák's 1 - (1 - p)^U is exact. The codewords under one mask are each a row of fair coins, but not
independent of each other (the payload code is linear): for them Bonferroni's 2^b·p, which needs no independence. Together
p_text = 1 - (1 - min(1, 2^b·p))^U. An issuer with long payloads pays for its own payloads; the others do not.

4  Looking everywhere (`watermark.localisation`). The best of W windows x all codewords is held to W·U·2^b·p, again Bonferroni, which
covers overlapping windows and any shortcut in the search. Whole text and windows share the rate as 9 : 1 (weighted Bonferroni:
Genovese, Roeder and Wasserman, Biometrika 93:3, 2006): p = min(1, p_text / 0.9, p_window / 0.1).

5  One key, many texts (`watermark.calibration`). The statements above average over keys. A key in use is one draw: unmarked
texts share a small mean direction m = E[e/|e|], so codeword s scores s·m too high on all of them, a deviation of 0.05 at 25 tokens and
of 0.2 at 200 (docs/experiments.md). The reported p-value is therefore the larger of the exact one and that of S - max(0, s·m_k)·|e| for
the kind k of unmarked text that is worst for s; and keys whose p-values on held-out texts are still too small are refused when they
are made (one-sided Kolmogorov-Smirnov test). This second p-value assumes that a text leans no more than the worst kind measured.

6  Which message (`posterior`). Given that the text is marked, evidence e_i = κσ_i²s_i + noise of variance σ_i² makes the likelihood of
a codeword proportional to exp(κS). Confidence is the posterior over the issuer's messages, those that were not listed counted by
their expectation under random coding; below 95 % a message or a bit is erased. This is a model; the p-value is not.

7  What is not decided (`decision`, `watermark.calibration.power`). `not_detected` means that at this length at least 95 % of unedited
marked texts would have been found, `insufficient_text` that fewer would. Neither is evidence of a human author.

Limits
* Text that depends on the key breaks H0: quoting or copying marked text gives a small p-value, rightly; so does forging by someone
  who knows the codeword, or who could learn it from many marked texts or answers (docs/secret-safety.md).
* Several verifications of one text by hand (other keys, other excerpts, other thresholds) are several tests; only those inside one call
  are corrected for.
* Intervals for measured shares are Clopper and Pearson's, those for means and ratios are bootstrapped by document (`intervals`).
"""
