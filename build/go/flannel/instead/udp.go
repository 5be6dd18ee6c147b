// Package udp is left out: it sends packets unencrypted, and is the only part that is written in C.
package udp
