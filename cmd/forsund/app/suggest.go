package app

import (
	"slices"

	"github.com/xrash/smetrics"
)

// nearest returns the word that was most likely meant: the one with the fewest
// letters to change, in any case and with - for _; "" if none is near.
func nearest(word string, words []string) string {
	words = slices.Sorted(slices.Values(words))
	word = plainName(word)
	best, distance := "", max(2, len(word)/3)+1
	for _, w := range words {
		if d := smetrics.WagnerFischer(word, plainName(w), 1, 1, 1); d < distance && d < len(word) {
			best, distance = w, d
		}
	}
	return best
}
