package dane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"
)

// holder has a certificate and its key.
type holder struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// issue makes a certificate by by; nil: by itself.
func issue(t *testing.T, by *holder, template x509.Certificate) *holder {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Unix(1000, 0), time.Unix(2000, 0)
	}
	if template.IsCA {
		template.BasicConstraintsValid, template.KeyUsage = true, x509.KeyUsageCertSign
	}
	parent, signer := &template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &holder{cert, key}
}

// record is cert's.
func record(cert *x509.Certificate, usage, selector, matching uint8) Record {
	data := cert.Raw
	if selector == SPKI {
		data = cert.RawSubjectPublicKeyInfo
	}
	switch matching {
	case SHA256:
		sum := sha256.Sum256(data)
		data = sum[:]
	case SHA512:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	return Record{usage, selector, matching, data}
}

func TestVerify(t *testing.T) {
	now, late := time.Unix(1500, 0), time.Unix(5000, 0)
	root := issue(t, nil, x509.Certificate{Subject: pkix.Name{CommonName: "root"}, IsCA: true, NotBefore: time.Unix(1, 0), NotAfter: time.Unix(9000, 0)})
	between := issue(t, root, x509.Certificate{Subject: pkix.Name{CommonName: "between"}, IsCA: true})
	leaf := issue(t, between, x509.Certificate{DNSNames: []string{"mx.far.example", "*.wild.example"}, Subject: pkix.Name{CommonName: "far.example"}})
	byCN := issue(t, between, x509.Certificate{Subject: pkix.Name{CommonName: "mx.far.example"}})
	self := issue(t, nil, x509.Certificate{Subject: pkix.Name{CommonName: "whatever"}})
	other := issue(t, nil, x509.Certificate{Subject: pkix.Name{CommonName: "root"}, IsCA: true})
	fake := issue(t, other, x509.Certificate{DNSNames: []string{"mx.far.example"}})

	chain := func(holders ...*holder) (certs []*x509.Certificate) {
		for _, h := range holders {
			certs = append(certs, h.cert)
		}
		return certs
	}
	full := chain(leaf, between, root)
	right, wrong := []string{"mx.far.example"}, []string{"mx.evil.example"}
	for _, test := range []struct {
		name    string
		records []Record
		chain   []*x509.Certificate
		names   []string
		now     time.Time
		ok      bool
	}{
		{"3 1 1", []Record{record(leaf.cert, 3, 1, 1)}, full, right, now, true},
		{"3 0 1", []Record{record(leaf.cert, 3, 0, 1)}, full, right, now, true},
		{"3 1 2", []Record{record(leaf.cert, 3, 1, 2)}, full, right, now, true},
		{"3 0 0", []Record{record(leaf.cert, 3, 0, 0)}, full, right, now, true},
		{"3 1 0", []Record{record(leaf.cert, 3, 1, 0)}, full, right, now, true},
		{"3 1 1, self-signed, no name, out of date", []Record{record(self.cert, 3, 1, 1)}, chain(self), wrong, late, true}, // RFC 7672 §3.1.1
		{"3 1 1 of another key", []Record{record(self.cert, 3, 1, 1)}, full, right, now, false},
		{"3 1 1 of the authority", []Record{record(root.cert, 3, 1, 1)}, full, right, now, false},
		{"one of two", []Record{record(self.cert, 3, 1, 1), record(leaf.cert, 3, 1, 1)}, full, right, now, true},
		{"2 0 1 of the root", []Record{record(root.cert, 2, 0, 1)}, full, right, now, true},
		{"2 1 1 of the root", []Record{record(root.cert, 2, 1, 1)}, full, right, now, true},
		{"2 0 1 of one between", []Record{record(between.cert, 2, 0, 1)}, chain(leaf, between), right, now, true},
		{"2 0 1 of a root that is not sent", []Record{record(root.cert, 2, 0, 1)}, chain(leaf, between), right, now, false}, // RFC 7672 §3.1.2
		{"2 0 0 of a root that is not sent", []Record{record(root.cert, 2, 0, 0)}, chain(leaf, between), right, now, true},
		{"2 0 1, another name", []Record{record(root.cert, 2, 0, 1)}, full, wrong, now, false},
		{"2 0 1, the second name", []Record{record(root.cert, 2, 0, 1)}, full, []string{"mx.evil.example", "mx.far.example"}, now, true},
		{"2 0 1, a wildcard", []Record{record(root.cert, 2, 0, 1)}, full, []string{"a.wild.example"}, now, true},
		{"2 0 1, a wildcard is one label", []Record{record(root.cert, 2, 0, 1)}, full, []string{"a.b.wild.example"}, now, false},
		{"2 0 1, the CN beside DNS-IDs", []Record{record(root.cert, 2, 0, 1)}, full, []string{"far.example"}, now, false}, // RFC 7672 §3.2.3
		{"2 0 1, the CN alone", []Record{record(root.cert, 2, 0, 1)}, chain(byCN, between, root), right, now, true},
		{"2 0 1, out of date", []Record{record(root.cert, 2, 0, 1)}, full, right, late, false},
		{"2 0 1, in the chain but not its signer", []Record{record(root.cert, 2, 0, 1)}, chain(fake, root), right, now, false},
		{"2 0 1 of the server's own", []Record{record(self.cert, 2, 0, 1)}, chain(self), []string{"whatever"}, now, false},
		{"no chain", []Record{record(leaf.cert, 3, 1, 1)}, nil, right, now, false},
		{"no records", nil, full, right, now, false},
	} {
		if len(Usable(test.records)) != len(test.records) {
			t.Errorf("%s: not usable", test.name)
		}
		if err := Verify(Usable(test.records), test.chain, test.names, test.now); (err == nil) != test.ok {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestUsable(t *testing.T) {
	cert := issue(t, nil, x509.Certificate{}).cert
	strong, weak := record(cert, 3, 1, 2), record(cert, 3, 1, 1)
	for _, r := range []Record{
		record(cert, 0, 1, 1), record(cert, 1, 1, 1), // RFC 7672 §3.1.3
		record(cert, 4, 1, 1), record(cert, 3, 2, 1),
		{3, 1, 3, weak.Data},
		{3, 1, 1, weak.Data[1:]},
		{3, 1, 2, weak.Data},
		{3, 1, 1, nil},
		{3, 0, 0, weak.Data},
		{3, 1, 0, weak.Data},
	} {
		if got := Usable([]Record{r}); len(got) != 0 {
			t.Errorf("%v is usable", r)
		}
	}
	for _, test := range []struct {
		name string
		in   []Record
		want int
	}{
		{"the strongest digest alone", []Record{weak, strong}, 1}, // RFC 7671 §9
		{"of each usage", []Record{record(cert, 2, 1, 1), strong}, 2},
		{"of each selector", []Record{record(cert, 3, 0, 1), strong}, 2},
		{"whole ones beside digests", []Record{record(cert, 3, 1, 0), strong}, 2},
		{"a broken strong one does not count", []Record{weak, {3, 1, 2, weak.Data}}, 1},
	} {
		if got := Usable(test.in); len(got) != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
	// A forged weak digest beside a strong one of another certificate does not let it in.
	forged := issue(t, nil, x509.Certificate{}).cert
	if err := Verify(Usable([]Record{strong, record(forged, 3, 1, 1)}), []*x509.Certificate{forged}, nil, time.Unix(1500, 0)); err == nil {
		t.Error("the weaker digest counted")
	}
}

func FuzzUsable(f *testing.F) {
	f.Add(uint8(3), uint8(1), uint8(1), make([]byte, 32))
	f.Add(uint8(2), uint8(0), uint8(0), []byte{0x30, 0x03})
	f.Fuzz(func(t *testing.T, usage, selector, matching uint8, data []byte) {
		records := Usable([]Record{{usage, selector, matching, data}})
		for _, r := range records {
			_ = r.String()
		}
		if err := Verify(records, []*x509.Certificate{{}, {}}, []string{"a"}, time.Time{}); err == nil && len(data) > 0 {
			t.Fatal("empty certificates verify")
		}
	})
}
