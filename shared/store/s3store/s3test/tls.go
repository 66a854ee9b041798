package s3test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// certificate is what a server with TLS is started with. All files are PEM.
type certificate struct {
	dir       string // holds cert and key, under the names that MinIO looks for
	cert, key string
	authority string
	pool      *x509.CertPool // of the authority
}

// makeCertificate makes a certificate authority and has it sign a certificate for 127.0.0.1.
func makeCertificate(dir string) (certificate, error) {
	server := filepath.Join(dir, "certs")
	c := certificate{
		dir:  server,
		cert: filepath.Join(server, "public.crt"), key: filepath.Join(server, "private.key"),
		authority: filepath.Join(dir, "authority.pem"),
		pool:      x509.NewCertPool(),
	}
	if err := os.Mkdir(server, 0o700); err != nil {
		return c, err
	}
	now := time.Now()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of a test"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return c, err
	}
	if err := sign(c.authority, authority, authority, authorityKey, authorityKey); err != nil {
		return c, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "S3 server of a test"},
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return c, err
	}
	if err := sign(c.cert, leaf, authority, leafKey, authorityKey); err != nil {
		return c, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		return c, err
	}
	if err := writePEM(c.key, "PRIVATE KEY", der); err != nil {
		return c, err
	}
	text, err := os.ReadFile(c.authority)
	c.pool.AppendCertsFromPEM(text)
	return c, err
}

// sign writes cert with key, signed by parent.
func sign(path string, cert, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, key.Public(), parentKey)
	if err != nil {
		return err
	}
	return writePEM(path, "CERTIFICATE", der)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
