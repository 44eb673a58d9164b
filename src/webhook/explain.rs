//! Why a signature fails, in words.
