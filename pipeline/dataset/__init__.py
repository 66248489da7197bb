"""What lies in an output folder: parts, the plan, the manifest, the summary; subsets and labels; SQL over them."""
