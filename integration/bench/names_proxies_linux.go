package main

import "context"

// haproxyNamesConfig sets no number of threads, so haproxy has one for each core. It reads the
// name of each HTTP request, and of the first bytes of TLS.
const haproxyNamesConfig = `
global
	maxconn 8192
defaults
	mode http
	timeout connect 5s
	timeout client 1m
	timeout server 1m
frontend http
	bind %[1]s:80 backlog 4096
	use_backend http-a if { req.hdr(host) -i ` + siteName + ` }
	default_backend http-b
backend http-a
	server a %[2]s:80
backend http-b
	server b %[3]s:80
frontend https
	mode tcp
	bind %[1]s:443 backlog 4096
	tcp-request inspect-delay 5s
	tcp-request content accept if { req.ssl_hello_type 1 }
	use_backend https-a if { req.ssl_sni -i ` + siteName + ` }
	default_backend https-b
backend https-a
	mode tcp
	server a %[2]s:443
backend https-b
	mode tcp
	server b %[3]s:443
`

func startHAProxyNames(_ context.Context, s *site) error {
	if err := s.addInner(); err != nil {
		return err
	}
	return s.startHAProxy(s.proxyConfig(haproxyNamesConfig))
}

// nginxNamesHTTP leaves nginx's default buffering of responses.
const nginxNamesHTTP = `proxy_http_version 1.1;
	proxy_set_header Connection "";
	proxy_set_header Host $host;
	upstream a { server %[2]s:80; keepalive 256; keepalive_requests 1000000000; }
	upstream b { server %[3]s:80; keepalive 256; keepalive_requests 1000000000; }
	server {
		listen %[1]s:80 backlog=4096;
		server_name ` + siteName + `;
		location / { proxy_pass http://a; }
	}
	server {
		listen %[1]s:80 default_server;
		location / { proxy_pass http://b; }
	}`

// nginxNamesTLS reads the name of the first bytes of TLS.
const nginxNamesTLS = `
	map $ssl_preread_server_name $segment { ` + siteName + ` a; default b; }
	upstream a { server %[2]s:443; }
	upstream b { server %[3]s:443; }
	server {
		listen %[1]s:443 backlog=4096;
		ssl_preread on;
		proxy_pass $segment;
	}
`

func startNginxNames(_ context.Context, s *site) error {
	if err := s.addInner(); err != nil {
		return err
	}
	http := s.nginxHTTP("names", s.proxyConfig(nginxNamesHTTP))
	config, err := s.writeNginxBoth("names", http, s.proxyConfig(nginxNamesTLS))
	if err != nil {
		return err
	}
	_, err = s.startPlane(s.nginxWithWorkers("names", config))
	return err
}
