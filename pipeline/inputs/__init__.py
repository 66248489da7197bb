"""What users name, as shards and their samples: lists, braces, folders; tars, Parquet files, folders of images."""
