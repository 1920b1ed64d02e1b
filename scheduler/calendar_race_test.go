//go:build race

package scheduler

// randomPlans is how many random plans TestNextAgainstBruteForce tries.
const randomPlans = 5_000
