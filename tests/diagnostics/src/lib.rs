//! Nothing: the programs beside this file are what the package is for.
