"""What generates and verifies behind the API: one contract (`protocol`) and the batching engine that fulfils it."""
