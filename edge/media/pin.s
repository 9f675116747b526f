// The compiler takes functions without a body, as in clock.go, only in a package with an assembly file.
