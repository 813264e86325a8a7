"""Many networks in one batched pass: packs, recorded updates, Adam, random draws."""
