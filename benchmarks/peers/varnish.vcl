# Varnish in front of the nginx of the same run, everything cached for a day.
vcl 4.1;

backend files { .host = "127.0.0.1"; .port = "@origin@"; }

sub vcl_backend_response {
    set beresp.ttl = 1d;
    set beresp.grace = 1h;
    unset beresp.http.X-Fill;
}

sub vcl_deliver {
    if ("@fill@" != "") { set resp.http.X-Fill = "@fill@"; }
}
