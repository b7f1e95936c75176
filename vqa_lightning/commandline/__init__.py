"""What surrounds LightningCLI: the search path, the words of a user, and the sentences that end a mistake.

Imports everything below the command line; only `vqa_lightning.cli` imports it. Nothing is exported here, for
`search_path` must be imported before anything else.
"""
