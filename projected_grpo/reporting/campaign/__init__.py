"""The report of a campaign: arms x seeds compared on one page, with the verdict first and the rollouts to read last."""
