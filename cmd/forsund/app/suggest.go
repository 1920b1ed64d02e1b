package app

import (
	"fmt"
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

// strayWord is what is wrong with a word that is no option, nor the value of one.
func strayWord(word string) error {
	near := nearest(word, []string{"config", "backup", "restore"})
	switch near {
	case "":
		return &UsageError{"", fmt.Sprintf("%q: forsund takes options only (forsund -h lists them)", word)}
	case word:
		return &UsageError{"", fmt.Sprintf("%q: belongs right after forsund, before all options", word)}
	}
	return &UsageError{"", fmt.Sprintf("%q: forsund takes options only, did you mean forsund %s? (forsund -h lists them)", word, near)}
}
