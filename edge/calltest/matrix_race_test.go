//go:build race

package calltest

const raceDetector = true
