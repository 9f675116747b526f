package media

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
)

func TestUDPPortCarriesPackets(t *testing.T) {
	ip := netip.MustParseAddr("127.0.0.1")
	peer, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = peer.Close() }()
	opened, number := openFree(t, ip)
	port := opened.(*udpPort)
	buf := make([]byte, 100)
	if _, _, ok := port.Recv(buf); ok {
		t.Fatal("something came before anything was sent")
	}
	to := peer.LocalAddr().(*net.UDPAddr).AddrPort()
	if err := port.Send([]byte("hello"), to); err != nil {
		t.Fatal(err)
	}
	n, from, err := peer.ReadFromUDPAddrPort(buf)
	if err != nil || string(buf[:n]) != "hello" || from != netip.AddrPortFrom(ip, number) {
		t.Fatalf("%q from %v: %v", buf[:n], from, err)
	}
	// Loopback delivers before the send returns.
	if _, err := peer.WriteToUDPAddrPort([]byte("answer"), from); err != nil {
		t.Fatal(err)
	}
	n, from, ok := port.Recv(buf)
	if !ok || string(buf[:n]) != "answer" || from != to {
		t.Fatalf("%q from %v", buf[:n], from)
	}
	if port.Arrived().IsZero() {
		t.Error("the kernel's time of arrival is missing")
	}
	if allocations := testing.AllocsPerRun(100, func() {
		_ = port.Send(buf[:6], from)
		port.Recv(buf)
	}); allocations != 0 {
		t.Errorf("%v allocations per packet", allocations)
	}
	if err := port.Send([]byte("x"), netip.MustParseAddrPort("[::1]:5")); err == nil {
		t.Error("sent to IPv6 from an IPv4 socket")
	}
	if _, err := openUDP(ip, int(number)); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a port in use: %v", err)
	}
	for range 2 {
		if err := port.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, _, ok := port.Recv(buf); ok || port.Send(buf, to) == nil {
		t.Error("a closed port works")
	}
}

// openFree opens a port that the system says is free.
func openFree(t *testing.T, ip netip.Addr) (PacketPort, uint16) {
	t.Helper()
	for range 20 {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 0)))
		if err != nil {
			t.Fatal(err)
		}
		number := c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		_ = c.Close()
		p, err := openUDP(ip, int(number))
		if err == nil {
			return p, number
		}
		if !isInUse(err) {
			t.Fatal(err)
		}
	}
	t.Fatal("no free port in 20 tries")
	return nil, 0
}
