"""Images as other programs leave them: class folders, lists of classes beside them, tables in shards, tars."""
