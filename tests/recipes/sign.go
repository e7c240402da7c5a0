// LINK_KID=… LINK_SECRET=<base64> go run sign.go PATH EXP IAT [sub=…] [ip=…] [disposition=attachment] [m=PUT]
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"sort"
	"strings"
)

// encode leaves RFC 3986 unreserved characters plain; url.QueryEscape would write a space as +.
func encode(value string) string {
	var out strings.Builder
	for _, b := range []byte(value) {
		if b >= 'A' && b <= 'Z' || b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || strings.IndexByte("-._~", b) >= 0 {
			out.WriteByte(b)
		} else {
			fmt.Fprintf(&out, "%%%02X", b)
		}
	}
	return out.String()
}

func sign(path string, said map[string]string, secret []byte) string {
	pairs := func(names []string) string {
		var list []string
		for _, name := range names {
			if value, ok := said[name]; ok {
				list = append(list, name+"="+encode(value))
			}
		}
		return strings.Join(list, "&")
	}
	method, ok := said["m"]
	if !ok {
		method = "GET"
	}
	order := []string{"exp", "iat", "kid", "m", "sub", "ip", "disposition"}
	sorted := append([]string(nil), order...)
	sort.Strings(sorted)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(strings.Join([]string{"v1", method, path, pairs(sorted)}, "\n")))
	return path + "?" + pairs(order) + "&sig=" + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func main() {
	said := map[string]string{"exp": os.Args[2], "iat": os.Args[3], "kid": os.Getenv("LINK_KID")}
	for _, pair := range os.Args[4:] {
		name, value, _ := strings.Cut(pair, "=")
		said[name] = value
	}
	secret, err := base64.StdEncoding.DecodeString(os.Getenv("LINK_SECRET"))
	if err != nil {
		panic(err)
	}
	fmt.Println(sign(os.Args[1], said, secret))
}
