package storetest

import (
	"fmt"
	"math"
	"sync"

	"github.com/comity-im/comity/internal/store"
)

func testUsers(e *env) {
	_, err := e.User(e.ctx, alice)
	e.is(err, store.ErrNotFound)
	a := store.User{URI: alice, Name: "Alice", Created: 5, Data: []byte{1}}
	b := store.User{URI: bob, Created: 6, Disabled: true, Data: []byte{}}
	e.ok(e.PutUser(e.ctx, store.User{URI: alice}))
	e.ok(e.PutUser(e.ctx, b))
	e.ok(e.PutUser(e.ctx, a))
	e.is(e.PutUser(e.ctx, store.User{}), store.ErrInvalid)
	e.reopen()
	got, err := e.User(e.ctx, alice)
	e.ok(err)
	e.eq(got, a)
	list, err := e.Users(e.ctx, "", 0)
	e.ok(err)
	e.eq(list, []store.User{a, b})
	list, err = e.Users(e.ctx, alice, 1)
	e.ok(err)
	e.eq(list, []store.User{b})
}

// enrol makes a user, if need be, and a device of the user.
func (e *env) enrol(user, device string) {
	e.Helper()
	e.ok(e.PutUser(e.ctx, store.User{URI: user}))
	code := event(device).Hash
	e.ok(e.PutEnrolment(e.ctx, store.Enrolment{CodeHash: code, User: user, Expires: start + 1000}))
	e.ok(e.UseEnrolment(e.ctx, code, store.Device{URI: device, User: user, PublicKey: []byte(device)}, start))
}

func testEnrolment(e *env) {
	code, late := store.Hash{1}, store.Hash{2}
	d := store.Device{URI: phone, User: alice, Name: "phone", PublicKey: []byte{1, 2}, CipherSuite: 1, Certificate: []byte{3}, Created: start, Data: []byte{4}}
	e.is(e.PutEnrolment(e.ctx, store.Enrolment{CodeHash: code, User: alice, Expires: start + 10}), store.ErrNotFound)
	e.ok(e.PutUser(e.ctx, store.User{URI: alice}))
	e.ok(e.PutUser(e.ctx, store.User{URI: bob}))
	e.is(e.PutEnrolment(e.ctx, store.Enrolment{User: alice}), store.ErrInvalid)
	e.ok(e.PutEnrolment(e.ctx, store.Enrolment{CodeHash: code, User: alice, Expires: start + 10}))
	e.is(e.PutEnrolment(e.ctx, store.Enrolment{CodeHash: code, User: alice, Expires: start + 10}), store.ErrExists)
	e.ok(e.PutEnrolment(e.ctx, store.Enrolment{CodeHash: late, User: alice, Expires: start + 10}))
	got, err := e.Enrolment(e.ctx, code)
	e.ok(err)
	e.eq(got, store.Enrolment{CodeHash: code, User: alice, Expires: start + 10})

	e.is(e.UseEnrolment(e.ctx, store.Hash{9}, d, start), store.ErrNotFound)
	theft := d
	theft.User = bob
	e.is(e.UseEnrolment(e.ctx, code, theft, start), store.ErrNotFound)
	e.is(e.UseEnrolment(e.ctx, code, d, start+10), store.ErrNotFound) // expired
	_, err = e.Device(e.ctx, phone)
	e.is(err, store.ErrNotFound)

	e.ok(e.UseEnrolment(e.ctx, code, d, start))
	e.reopen()
	have, err := e.Device(e.ctx, phone)
	e.ok(err)
	e.eq(have, d)
	got, err = e.Enrolment(e.ctx, code)
	e.ok(err)
	e.eq(got.Device, d.URI) // spent

	e.ok(e.UseEnrolment(e.ctx, code, d, start+99)) // the answer was lost
	otherKey, otherDevice := d, d
	otherKey.PublicKey = []byte{9}
	otherDevice.URI = tab
	e.is(e.UseEnrolment(e.ctx, code, otherKey, start), store.ErrNotFound)
	e.is(e.UseEnrolment(e.ctx, code, otherDevice, start), store.ErrNotFound)
	e.is(e.UseEnrolment(e.ctx, late, d, start), store.ErrExists) // the device is there
	e.ok(e.UseEnrolment(e.ctx, late, otherDevice, start))        // and the code was not spent by that

	// Of many devices one gets the code.
	race := store.Hash{3}
	e.ok(e.PutEnrolment(e.ctx, store.Enrolment{CodeHash: race, User: bob, Expires: start + 10}))
	var wg sync.WaitGroup
	errs := make([]error, 32)
	for i := range errs {
		wg.Go(func() {
			errs[i] = e.UseEnrolment(e.ctx, race, store.Device{URI: fmt.Sprint("mimi://hub.example/d/bob/", i), User: bob, PublicKey: []byte{byte(i)}}, start)
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
			continue
		}
		e.is(err, store.ErrNotFound)
	}
	e.eq(won, 1)
	list, err := e.Devices(e.ctx, bob)
	e.ok(err)
	e.eq(len(list), 1)
}

func testDevices(e *env) {
	e.enrol(alice, tab)
	e.enrol(alice, phone)
	e.enrol(bob, "mimi://hub.example/d/bob/x")
	list, err := e.Devices(e.ctx, alice)
	e.ok(err)
	e.eq(len(list), 2)
	e.eq(list[0].URI, phone)
	e.eq(list[1].URI, tab)
	d := list[0]
	d.Certificate, d.Revoked = []byte("renewed"), 7
	e.ok(e.PutDevice(e.ctx, d))
	e.reopen()
	got, err := e.Device(e.ctx, phone)
	e.ok(err)
	e.eq(got, d)
	d.User = bob
	e.is(e.PutDevice(e.ctx, d), store.ErrInvalid)
	d.URI = "mimi://hub.example/d/nobody/x"
	e.is(e.PutDevice(e.ctx, d), store.ErrNotFound)

	_, err = e.PublishKeyPackages(e.ctx, tab, []store.KeyPackage{{Ref: []byte("r"), Suite: 1, NotAfter: start + 10}})
	e.ok(err)
	_, err = e.PutMail(e.ctx, []store.NewMail{{Device: tab, Body: []byte("x")}})
	e.ok(err)
	e.ok(e.RemoveDevice(e.ctx, tab))
	e.ok(e.RemoveDevice(e.ctx, tab))
	_, err = e.Device(e.ctx, tab)
	e.is(err, store.ErrNotFound)
	n, err := e.CountKeyPackages(e.ctx, tab, start)
	e.ok(err)
	e.eq(n, 0)
	mail, err := e.Mail(e.ctx, tab, 0, 0)
	e.ok(err)
	e.eq(len(mail), 0)
}

// kp is a KeyPackage for tests.
func kp(name string, suite uint16, notAfter uint64) store.KeyPackage {
	return store.KeyPackage{Ref: []byte("ref " + name), Suite: suite, NotAfter: notAfter, Body: []byte("body " + name)}
}

func testKeyPackages(e *env) {
	_, err := e.PublishKeyPackages(e.ctx, phone, []store.KeyPackage{kp("a", 1, start+10)})
	e.is(err, store.ErrNotFound)
	e.enrol(alice, phone)
	e.enrol(alice, tab)
	_, err = e.PublishKeyPackages(e.ctx, phone, []store.KeyPackage{{Suite: 1}})
	e.is(err, store.ErrInvalid)
	publish := func(device string, want int, kps ...store.KeyPackage) {
		e.Helper()
		n, err := e.PublishKeyPackages(e.ctx, device, kps)
		e.ok(err)
		e.eq(n, want)
	}
	publish(phone, 4, kp("old", 1, start), kp("one", 1, start+10), kp("two", 2, math.MaxUint64), kp("one more", 1, start+10), kp("one", 1, start+10))
	publish(phone, 0, kp("two", 2, math.MaxUint64))
	publish(tab, 0, kp("one", 1, start+10)) // known, of another device
	publish(tab, 1, kp("three", 3, start+10))
	e.reopen()
	count := func(device string, want int) {
		e.Helper()
		n, err := e.CountKeyPackages(e.ctx, device, start)
		e.ok(err)
		e.eq(n, want)
	}
	count(phone, 3)

	claim := func(suites ...uint16) []store.Claimed {
		e.Helper()
		got, err := e.ClaimKeyPackages(e.ctx, store.ClaimRequest{User: alice, Suites: suites, Room: roomA, Now: start})
		e.ok(err)
		return got
	}
	taken := func(name string, suite uint16, notAfter uint64, left int) store.Claimed {
		k := kp(name, suite, notAfter)
		return store.Claimed{Device: phone, Status: store.ClaimOK, Ref: k.Ref, Suite: suite, NotAfter: notAfter, Body: k.Body, Left: left}
	}
	incompatible := store.Claimed{Device: tab, Status: store.ClaimIncompatible, Left: 1}
	e.eq(claim(2, 1), []store.Claimed{taken("two", 2, math.MaxInt64, 2), incompatible}) // preference goes before age
	e.eq(claim(2, 1), []store.Claimed{taken("one", 1, start+10, 1), incompatible})      // the oldest that is good
	e.reopen()
	e.eq(claim(1), []store.Claimed{taken("one more", 1, start+10, 0), incompatible})
	e.eq(claim(1), []store.Claimed{{Device: phone, Status: store.ClaimExhausted}, incompatible})
	count(phone, 0)
	publish(phone, 0, kp("one", 1, start+10)) // claimed ones do not come back
	count(phone, 0)

	// A revoked device gives nothing.
	d, err := e.Device(e.ctx, tab)
	e.ok(err)
	d.Revoked = start
	e.ok(e.PutDevice(e.ctx, d))
	e.eq(claim(3), []store.Claimed{{Device: phone, Status: store.ClaimExhausted}})
	_, err = e.ClaimKeyPackages(e.ctx, store.ClaimRequest{User: bob, Suites: []uint16{1}, Now: start})
	e.is(err, store.ErrNotFound)
	e.ok(e.PutUser(e.ctx, store.User{URI: bob}))
	got, err := e.ClaimKeyPackages(e.ctx, store.ClaimRequest{User: bob, Suites: []uint16{1}, Now: start})
	e.ok(err)
	e.eq(len(got), 0)
}

// testClaimOnce has more claimers than KeyPackages: each is given out once.
func testClaimOnce(e *env) {
	const claimers, packages = 48, 30
	e.enrol(alice, phone)
	e.enrol(alice, tab)
	for _, d := range []string{phone, tab} {
		var kps []store.KeyPackage
		for i := range packages {
			kps = append(kps, kp(fmt.Sprint(d, i), 1, start+10))
		}
		_, err := e.PublishKeyPackages(e.ctx, d, kps)
		e.ok(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	given := map[string]int{}
	exhausted := 0
	for i := range claimers {
		wg.Go(func() {
			got, err := e.ClaimKeyPackages(e.ctx, store.ClaimRequest{User: alice, Suites: []uint16{1}, Now: start, RequestHash: store.Hash{1, byte(i)}, RepeatUntil: start + 100})
			if err != nil || len(got) != 2 {
				e.Errorf("got %d answers, error %v", len(got), err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, c := range got {
				if c.Status == store.ClaimOK {
					given[string(c.Ref)]++
				} else {
					exhausted++
				}
			}
		})
	}
	wg.Wait()
	e.eq(len(given), 2*packages)
	for ref, n := range given {
		if n != 1 {
			e.Errorf("%s was given out %d times", ref, n)
		}
	}
	e.eq(exhausted, 2*(claimers-packages))
}

func testClaimAgain(e *env) {
	e.enrol(alice, phone)
	e.enrol(alice, tab)
	_, err := e.PublishKeyPackages(e.ctx, phone, []store.KeyPackage{kp("one", 1, start+1000), kp("two", 1, start+1000), kp("three", 1, start+1000)})
	e.ok(err)
	claim := func(hash byte, now uint64) []store.Claimed {
		e.Helper()
		got, err := e.ClaimKeyPackages(e.ctx, store.ClaimRequest{User: alice, Suites: []uint16{1}, Now: now, RequestHash: store.Hash{hash}, RepeatUntil: now + 100})
		e.ok(err)
		return got
	}
	first := claim(1, start)
	e.eq(string(first[0].Ref), "ref one")
	e.eq(first[1].Status, store.ClaimExhausted)
	// The other device has some now; the answer stays the same all the same.
	_, err = e.PublishKeyPackages(e.ctx, tab, []store.KeyPackage{kp("tab", 1, start+1000)})
	e.ok(err)
	e.reopen()
	e.eq(claim(1, start+99), first)

	// The Welcome for it has come: the same request is a new one now.
	_, err = e.PutMail(e.ctx, []store.NewMail{{Device: phone, Kind: 1, Body: []byte("welcome"), KeyPackageRef: []byte("ref one")}})
	e.ok(err)
	second := claim(1, start+99)
	e.eq(string(second[0].Ref), "ref two")
	e.eq(string(second[1].Ref), "ref tab")
	e.eq(claim(1, start+99), second)
	// So it is when it comes too late.
	third := claim(1, start+99+100)
	e.eq(string(third[0].Ref), "ref three")

	// An answer with nothing is not remembered.
	e.eq(claim(5, start)[0].Status, store.ClaimExhausted)
	_, err = e.PublishKeyPackages(e.ctx, phone, []store.KeyPackage{kp("four", 1, start+1000)})
	e.ok(err)
	e.eq(string(claim(5, start)[0].Ref), "ref four")

	// The same bytes about another user are not the same request.
	e.ok(e.PutUser(e.ctx, store.User{URI: bob}))
	got, err := e.ClaimKeyPackages(e.ctx, store.ClaimRequest{User: bob, Suites: []uint16{1}, Now: start, RequestHash: store.Hash{5}, RepeatUntil: start + 100})
	e.ok(err)
	e.eq(len(got), 0)
}

func testClaimRoutes(e *env) {
	_, err := e.Claim(e.ctx, []byte("ref one"))
	e.is(err, store.ErrNotFound)
	e.enrol(alice, phone)
	_, err = e.PublishKeyPackages(e.ctx, phone, []store.KeyPackage{kp("one", 1, start+10)})
	e.ok(err)
	_, err = e.Claim(e.ctx, []byte("ref one"))
	e.is(err, store.ErrNotFound) // published, not claimed
	_, err = e.ClaimKeyPackages(e.ctx, store.ClaimRequest{User: alice, Suites: []uint16{1}, Room: roomA, Now: start})
	e.ok(err)
	remote := store.ClaimRoute{Ref: []byte("remote"), Target: "b.example", Room: roomB, NotAfter: start + 50}
	e.ok(e.PutClaims(e.ctx, []store.ClaimRoute{remote, {Ref: []byte("ref one"), Target: "thief.example", NotAfter: start + 50}}))
	e.is(e.PutClaims(e.ctx, []store.ClaimRoute{{Target: "b.example"}}), store.ErrInvalid)
	e.reopen()
	got, err := e.Claim(e.ctx, remote.Ref)
	e.ok(err)
	e.eq(got, remote)
	got, err = e.Claim(e.ctx, []byte("ref one"))
	e.ok(err)
	e.eq(got, store.ClaimRoute{Ref: []byte("ref one"), Target: phone, Room: roomA, NotAfter: start + 10})
}

func testExpire(e *env) {
	e.enrol(alice, phone)
	many := []store.KeyPackage{}
	for i := range 1200 {
		many = append(many, kp(fmt.Sprint(i), 1, start+10))
	}
	many = append(many, kp("fresh", 2, start+11))
	_, err := e.PublishKeyPackages(e.ctx, phone, many)
	e.ok(err)
	e.ok(e.PutClaims(e.ctx, []store.ClaimRoute{
		{Ref: []byte("gone"), Target: "b.example", NotAfter: start + 10},
		{Ref: []byte("stays"), Target: "b.example", NotAfter: start + 11},
	}))
	e.ok(e.PutEnrolment(e.ctx, store.Enrolment{CodeHash: store.Hash{1}, User: alice, Expires: start + 10}))
	e.ok(e.PutEnrolment(e.ctx, store.Enrolment{CodeHash: store.Hash{2}, User: alice, Expires: start + 11}))
	e.ok(e.Expire(e.ctx, start+10))
	e.reopen()
	n, err := e.CountKeyPackages(e.ctx, phone, 0) // at a time when all were good
	e.ok(err)
	e.eq(n, 1)
	_, err = e.Claim(e.ctx, []byte("gone"))
	e.is(err, store.ErrNotFound)
	_, err = e.Claim(e.ctx, []byte("stays"))
	e.ok(err)
	_, err = e.Enrolment(e.ctx, store.Hash{1})
	e.is(err, store.ErrNotFound)
	_, err = e.Enrolment(e.ctx, store.Hash{2})
	e.ok(err)
}
