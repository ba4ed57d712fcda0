"""What a verification may claim, and why.

H0, the hypothesis held against a text: "the text was written without knowledge of the secret key". A codeword is n signs
derived from the secret by HMAC-SHA256. Whoever lacks the key cannot tell these signs from fair coin flips, so under H0 the
text, and with it the evidence e that the extractor reads from it, is independent of the signs s.

Why the p-value is exact. Given e, the statistic S = Σ s_i·e_i is a sum of fixed numbers with random signs. Its tail is
computed, not fitted (`rademacher`): no normal approximation, no reference corpus, no assumption on language, topic, length,
repetition, or how good or biased the extractor is. A poor extractor costs power, never validity. What approximation there
is (a grid) is bracketed, and the upper end of the bracket is reported.

What is corrected for (`correction`): every codeword tried, that is issuers x payloads x nonces, and whatever else was
searched for the best score. The best of k scores is judged as the best of k.

Limits.
* The chance is over keys: for a key drawn at random the false-positive rate holds for any fixed text. One key that is already
  drawn has its own fixed set of texts that score high, and over many texts of one kind a fixed key can be luckier or unluckier
  than the rate says. Measure a key on human text before relying on very small p-values.
* Text that does depend on the key breaks H0: quoting or copying marked text gives a small p-value, rightly; so does forging
  by someone who could query a verifier very many times with the scores on show.
* Several verifications of one text (other keys, other spans, other thresholds) by hand are several tests; only those
  inside one call are corrected for.
* `not_detected` is no evidence for a human author (`decision` says so in every verdict).
"""
