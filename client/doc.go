// Package client is the blocking Go client of ndferry.
package client
