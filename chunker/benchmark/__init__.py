"""What the codec is worth beside other compressors, and what `chunker surprise` finds;
results in cli/BENCHMARKS.md."""
