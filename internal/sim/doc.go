// Package sim holds a simulated federation: three whole providers (package
// provider, on SQLite files) and several devices (package client) in one
// testing/synctest bubble, with a network between them that loses, delays,
// repeats and reorders, splits and heals, and with providers and devices that
// crash. All of it is in tests; the package has no other code.
//
// A run is made from a seed: which operations, when, and what the network does
// to which request. After each step, when nothing can go on without time
// passing, an oracle compares everything that everyone has stored: see
// checkInvariants. At the end the network heals and all must agree.
//
// What a seed does not fix is the order in which the scheduler runs goroutines,
// and the random delays and keys inside the packages under test. A failing seed
// may therefore need several runs to fail again; the printed trace tells what
// happened.
package sim
