package main

import (
	"context"
	"fmt"
	"os/exec"
)

// haproxyGroupsConfig leaves the number of threads to haproxy: one for each core.
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
	bind 192.168.1.2:80 backlog 4096
	bind 192.168.1.2:443 backlog 4096 ssl crt %s alpn h2,http/1.1
	use_backend a if { path_beg /test1/ }
	use_backend b if { path_beg /test2/ }
backend a
	server a 192.168.50.1:80
backend b
	server b 192.168.60.1:80
`

func startHAProxyGroups(_ context.Context, s *site) error {
	if err := s.addInner(); err != nil {
		return err
	}
	config, err := s.write("haproxy.cfg", fmt.Sprintf(haproxyGroupsConfig, s.bench.path(bothFile)))
	if err != nil {
		return err
	}
	_, err = s.startPlane(exec.Command("haproxy", "-db", "-f", config))
	return err
}

// nginxGroupsConfig has a worker for each core, as nginx's packages have it, and
// nginx's own way of buffering.
const nginxGroupsConfig = `
user root;
pid %[1]s/nginx.pid;
error_log %[1]s/nginx.log;
worker_processes auto;
worker_rlimit_nofile 16384;
events { worker_connections 8192; }
http {
	access_log off;
	keepalive_requests 1000000000;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	proxy_http_version 1.1;
	proxy_set_header Connection "";
	upstream a { server 192.168.50.1:80; keepalive 256; keepalive_requests 1000000000; }
	upstream b { server 192.168.60.1:80; keepalive 256; keepalive_requests 1000000000; }
	server {
		listen 192.168.1.2:80 backlog=4096;
		%[2]s
		location /test1/ { proxy_pass http://a; }
		location /test2/ { proxy_pass http://b; }
	}
}
`

func startNginxGroups(_ context.Context, s *site) error {
	if err := s.addInner(); err != nil {
		return err
	}
	_, err := s.startNginx(fmt.Sprintf(nginxGroupsConfig, s.dir, s.nginxHTTPS(s.public)))
	return err
}
