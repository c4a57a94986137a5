// Package api is the conversation between a provider and its own clients over
// HTTPS: enrolment and login of devices, KeyPackages, rooms, and one stream
// per device (see package mimi/local for the words).
//
// Start with [New]. A client sends the same MIMI bodies that providers
// exchange, and gets the same answers; JSON is used where MIMI has no word.
// Every call but enrolment and login carries a bearer token, which a device
// gets for a signature with its key and which names the device. What a call
// may do follows from that device alone.
//
// Errors are local.Problem documents with stable codes; one table in this
// package maps internal errors to them, and what is not in the table becomes
// 500 without detail.
package api
