package main

import "context"

// haproxyGroupsConfig sets no number of threads, so haproxy has one for each core.
const haproxyGroupsConfig = `
global
	maxconn 8192
	ssl-default-bind-options ssl-min-ver TLSv1.3
	ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
defaults
	mode http
	timeout connect 5s
	timeout client 1m
	timeout server 1m
frontend site
	bind %[1]s:80 backlog 4096
	bind %[1]s:443 backlog 4096 ssl crt %[4]s alpn h2,http/1.1
	use_backend a if { path_beg /test1/ }
	use_backend b if { path_beg /test2/ }
backend a
	server a %[2]s:80
backend b
	server b %[3]s:80
`

func startHAProxyGroups(_ context.Context, s *site) error {
	if err := s.addInner(); err != nil {
		return err
	}
	return s.startHAProxy(s.proxyConfig(haproxyGroupsConfig, s.bench.path(bothFile)))
}

// nginxGroups leaves nginx's default buffering of responses.
const nginxGroups = `proxy_http_version 1.1;
	proxy_set_header Connection "";
	upstream a { server %[2]s:80; keepalive 256; keepalive_requests 1000000000; }
	upstream b { server %[3]s:80; keepalive 256; keepalive_requests 1000000000; }
	server {
		listen %[1]s:80 backlog=4096;
		listen %[4]s;
		location /test1/ { proxy_pass http://a; }
		location /test2/ { proxy_pass http://b; }
	}`

func startNginxGroups(_ context.Context, s *site) error {
	if err := s.addInner(); err != nil {
		return err
	}
	config, err := s.writeNginx("groups", s.proxyConfig(nginxGroups, s.nginxHTTPS(s.public.Addr())))
	if err != nil {
		return err
	}
	_, err = s.startPlane(s.nginxWithWorkers("groups", config))
	return err
}
