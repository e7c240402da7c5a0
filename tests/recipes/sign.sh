#!/bin/sh
# LINK_KID=… LINK_SECRET=<base64> sh sign.sh PATH EXP IAT [sub=…] [ip=…] [disposition=attachment] [m=PUT]
# openssl takes the secret as an argument: other users of this machine can see it while the command runs.
set -eu
path=$1 exp=$2 iat=$3
shift 3

encode() { # bytes outside A-Z a-z 0-9 - . _ ~ become %XX
  printf %s "$1" | od -An -v -tx1 | tr -s ' ' '\n' | while read -r byte; do
    case $byte in
    "") ;;
    2d | 2e | 3[0-9] | 4[1-9a-f] | 5[0-9a] | 5f | 6[1-9a-f] | 7[0-9a] | 7e) printf "\\$(printf %o "0x$byte")" ;;
    *) printf %%%s "$(printf %s "$byte" | tr a-f A-F)" ;;
    esac
  done
}

m="" sub="" ip="" disposition="" method=GET
for pair in "$@"; do
  value=$(encode "${pair#*=}")
  case ${pair%%=*} in
  m) m="&m=$value" method=$value ;;
  sub) sub="&sub=$value" ;;
  ip) ip="&ip=$value" ;;
  disposition) disposition="disposition=$value&" ;;
  *) echo "unknown parameter: $pair" >&2 && exit 2 ;;
  esac
done

key=$(printf %s "$LINK_SECRET" | openssl base64 -d -A | od -An -v -tx1 | tr -d ' \n')
sig=$(printf 'v1\n%s\n%s\n%sexp=%s&iat=%s%s&kid=%s%s%s' "$method" "$path" "$disposition" "$exp" "$iat" "$ip" "$LINK_KID" "$m" "$sub" |
  openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | openssl base64 -A | tr '+/' '-_' | tr -d '=')
last=${disposition:+"&${disposition%&}"}
echo "$path?exp=$exp&iat=$iat&kid=$LINK_KID$m$sub$ip$last&sig=$sig"
