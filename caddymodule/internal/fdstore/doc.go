// Package fdstore keeps open files with the service manager when this process ends, and takes back
// what the process before has left there: systemd's file descriptor store
// (sd_pid_notify_with_fds(3), FileDescriptorStoreMax= in systemd.service(5)).
package fdstore
