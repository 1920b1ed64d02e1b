// Package access is how a peer shows who it is, and what that lets it do: tokens
// from a file, certificates, and what a proxy says of whom it speaks for.
//
// Files are read by Load functions and again by Reload, which keeps what was there
// if the new file is bad. No error names a token, or what may be one in the wrong
// place: they say the line.
package access
