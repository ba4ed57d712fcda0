"""Our marks and those of other libraries side by side: the same model, prompts, lengths, sampling, attacks and human text.

A *method* writes marked text and has a detector (`methods`): ours through `WatermarkedModel` alone, whatever kind the checkpoint is
(`ours`), and peers by their own processors, samplers and detectors (`kgw`, `synthid`, `textseal`), on our decoding loop (`decoding`).
What each writes and scores is kept in a folder of its own (`texts`, `scoring`, `quality`, `diversity`, `payload`, `timing`); from
there `detection` sets thresholds at equal measured false-positive rates, `run` is the whole, `page` and `plot` show it.
"""
