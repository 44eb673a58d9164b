//! The only unsafe: stacks, resume, suspend.
