package media

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// udpPort is a PacketPort over a non-blocking IPv4 socket.
//
// Why system calls by hand: package net parks a goroutine per read and wakes it through the poller, and unix.Recvfrom
// allocates an address per packet. A raw call that never blocks costs a microsecond and keeps the thread's P.
type udpPort struct {
	fd       int
	closed   bool
	arrived  time.Time
	from, to unix.RawSockaddrInet4
	message  unix.Msghdr
	vector   unix.Iovec
	control  [64]byte // room for one SCM_TIMESTAMPNS
}

// dscpEF is Expedited Forwarding (RFC 3246) in the place of the IPv4 TOS octet.
const dscpEF = 46 << 2

// openUDP binds one port on ip; the zero Addr is every address.
func openUDP(ip netip.Addr, port int) (PacketPort, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return nil, fmt.Errorf("open UDP socket: %w", err)
	}
	address := &unix.SockaddrInet4{Port: port}
	if ip.IsValid() {
		address.Addr = ip.Unmap().As4()
	}
	if err := unix.Bind(fd, address); err != nil {
		_ = unix.Close(fd) // nothing was sent; the error that matters is the other one
		return nil, fmt.Errorf("bind UDP port %d: %w", port, err)
	}
	// Both are improvements that a call can do without: priority in the network, and arrival times for jitter.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, dscpEF)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS_NEW, 1)
	return &udpPort{fd: fd}, nil
}

func (p *udpPort) Recv(buf []byte) (n int, from netip.AddrPort, ok bool) {
	if p.closed || len(buf) == 0 {
		return 0, netip.AddrPort{}, false
	}
	p.vector.Base = &buf[0]
	p.vector.SetLen(len(buf))
	p.message = unix.Msghdr{
		Name:    (*byte)(unsafe.Pointer(&p.from)),
		Namelen: unix.SizeofSockaddrInet4,
		Iov:     &p.vector,
		Control: &p.control[0],
	}
	p.message.SetIovlen(1)
	p.message.SetControllen(len(p.control))
	for {
		r, _, errno := syscall.RawSyscall(unix.SYS_RECVMSG, uintptr(p.fd), uintptr(unsafe.Pointer(&p.message)), 0)
		switch errno {
		case 0:
			p.readArrival()
			return int(r), addrPort(&p.from), true
		case unix.EINTR, unix.ECONNREFUSED:
			// ECONNREFUSED is the ICMP answer to something sent earlier; asking again clears it.
			continue
		}
		return 0, netip.AddrPort{}, false
	}
}

// readArrival finds the kernel's time stamp in the control message: a header of length, level and type, then a timespec
// of two 64-bit numbers.
func (p *udpPort) readArrival() {
	p.arrived = time.Time{}
	header := (*unix.Cmsghdr)(unsafe.Pointer(&p.control[0]))
	if int(p.message.Controllen) < unix.CmsgLen(16) || header.Level != unix.SOL_SOCKET || header.Type != unix.SO_TIMESTAMPNS_NEW {
		return
	}
	data := p.control[unix.CmsgLen(0):]
	seconds, nanoseconds := binary.NativeEndian.Uint64(data), binary.NativeEndian.Uint64(data[8:])
	p.arrived = time.Unix(int64(seconds), int64(nanoseconds))
}

// Arrived is when the packet last received reached the machine, by the wall clock; zero when the kernel does not say.
func (p *udpPort) Arrived() time.Time { return p.arrived }

func (p *udpPort) Send(b []byte, to netip.AddrPort) error {
	address := to.Addr().Unmap()
	if p.closed || len(b) == 0 || !address.Is4() {
		return unix.EINVAL
	}
	p.to = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: address.As4()}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&p.to.Port))[:], to.Port())
	for {
		_, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(p.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
			0, uintptr(unsafe.Pointer(&p.to)), unix.SizeofSockaddrInet4)
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
			continue
		}
		return errno
	}
}

func (p *udpPort) Close() error {
	if p.closed {
		return nil
	}
	p.closed = true
	return unix.Close(p.fd)
}

func addrPort(a *unix.RawSockaddrInet4) netip.AddrPort {
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&a.Port))[:])
	return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), port)
}
