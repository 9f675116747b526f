#!/usr/bin/perl
# A message centre for tests, by Net::SMPP. It serves one connection at a time. What happens is written to standard
# output, a line each, with fields between tabs; what shall happen is read from standard input:
#
#   receipts STATE      each submitted message is followed by a receipt in this state; "none" for no receipts
#   early STATE         the same, but the receipt comes before the answer
#   throttle N          the next N messages are refused with ESME_RTHROTTLED
#   refuse N STATUS     the next N messages are refused with this status
#   silent N            the next N messages are taken, and not answered
#   disconnect N        the connection is closed when N more messages have arrived, before the last is answered
#   deliver FROM TO CODING ESM HEX    a message from a phone
#   state ID STATE      a receipt by optional parameters, without a text
#   enquire             an enquire_link
#   raw HEX             these bytes
#   unbind              the session is ended
use strict;
use warnings;
use IO::Select;
use Net::SMPP;

$| = 1;
my ($port, $system_id, $password) = @ARGV;
my $listener = Net::SMPP->new_listen('127.0.0.1', port => $port, smpp_version => 0x34, timeout => undef)
    or die "listen: $!";
print "listening\t", $listener->sockport, "\n";

my %states = (DELIVRD => 2, EXPIRED => 3, DELETED => 4, UNDELIV => 5, ACCEPTD => 6, UNKNOWN => 7, REJECTD => 8);
my ($receipts, $early) = ('none', 0);
my ($throttle, $refuse, $status, $silent, $disconnect) = (0, 0, 0, 0, -1);
my $last = $$ * 1000;
my $link;
my $select = IO::Select->new($listener, \*STDIN);
my $typed = '';

sub say_line { print join("\t", @_), "\n" }

sub drop {
    return unless $link;
    $select->remove($link);
    close $link;
    undef $link;
    say_line('closed');
}

sub receipt {
    my ($pdu, $id, $state) = @_;
    my $text = sprintf 'id:%s sub:001 dlvrd:%03d submit date:2601310800 done date:2601310801 stat:%s err:%03d text:%s',
        $id, $state eq 'DELIVRD' ? 1 : 0, $state, $state eq 'DELIVRD' ? 0 : 27, 'stat:REJECTD id:0';
    $link->deliver_sm(
        async => 1, source_addr => $pdu->{destination_addr}, destination_addr => $pdu->{source_addr},
        esm_class => 0x04, data_coding => 0, short_message => $text);
}

sub submitted {
    my ($pdu) = @_;
    my $seq = $pdu->{seq};
    if ($disconnect > 0 && --$disconnect == 0) {
        $disconnect = -1;
        say_line('lost');
        return drop();
    }
    if ($throttle > 0) {
        $throttle--;
        say_line('throttled');
        return $link->submit_sm_resp(seq => $seq, status => 0x58, message_id => '');
    }
    if ($refuse > 0) {
        $refuse--;
        say_line('refused');
        return $link->submit_sm_resp(seq => $seq, status => $status, message_id => '');
    }
    my $id = sprintf '%08X', ++$last;
    my @sar = map { defined $pdu->{$_} ? unpack('H*', $pdu->{$_}) : '' } qw(sar_msg_ref_num sar_total_segments sar_segment_seqnum);
    say_line('submit', $id, $pdu->{source_addr}, $pdu->{destination_addr}, $pdu->{data_coding}, $pdu->{esm_class},
        $pdu->{registered_delivery}, unpack('H*', $pdu->{short_message}), join('/', @sar),
        join('/', map { $pdu->{$_} } qw(source_addr_ton source_addr_npi dest_addr_ton dest_addr_npi)));
    if ($silent > 0) {
        $silent--;
        return;
    }
    receipt($pdu, $id, $receipts) if $receipts ne 'none' && $early;
    $link->submit_sm_resp(seq => $seq, message_id => $id);
    receipt($pdu, $id, $receipts) if $receipts ne 'none' && !$early;
}

sub received {
    my $pdu = $link->read_pdu;
    return drop() unless $pdu;
    my $cmd = $pdu->{cmd};
    if ($cmd == 0x09) {
        my $right = $pdu->{system_id} eq $system_id && $pdu->{password} eq $password;
        $link->bind_transceiver_resp(seq => $pdu->{seq}, system_id => 'smsc', status => $right ? 0 : 0x0E);
        say_line($right ? 'bound' : 'denied', $pdu->{system_id});
    } elsif ($cmd == 0x04) {
        submitted($pdu);
    } elsif ($cmd == 0x15) {
        $link->enquire_link_resp(seq => $pdu->{seq});
        say_line('enquired');
    } elsif ($cmd == 0x06) {
        $link->unbind_resp(seq => $pdu->{seq});
        say_line('unbound');
        drop();
    } else {
        say_line('answer', sprintf('%08x', $cmd), $pdu->{status});
        drop() if $cmd == 0x80000006;
    }
}

sub told {
    my ($word, @with) = split / /, shift;
    if ($word eq 'receipts' || $word eq 'early') {
        ($receipts, $early) = ($with[0], $word eq 'early');
    } elsif ($word eq 'throttle') {
        $throttle = $with[0];
    } elsif ($word eq 'refuse') {
        ($refuse, $status) = ($with[0], hex $with[1]);
    } elsif ($word eq 'silent') {
        $silent = $with[0];
    } elsif ($word eq 'disconnect') {
        $disconnect = $with[0];
    } elsif ($link && $word eq 'deliver') {
        my ($from, $to, $coding, $esm, $hex) = @with;
        $link->deliver_sm(
            async => 1, source_addr_ton => 1, source_addr_npi => 1, source_addr => $from, destination_addr => $to,
            data_coding => $coding, esm_class => $esm, short_message => pack('H*', $hex // ''));
    } elsif ($link && $word eq 'state') {
        $link->deliver_sm(
            async => 1, source_addr => '1', destination_addr => '1', esm_class => 0x04, short_message => '',
            receipted_message_id => "$with[0]\0", message_state => pack('C', $states{$with[1]}),
            network_error_code => pack('Cn', 3, $with[1] eq 'DELIVRD' ? 0 : 27));
    } elsif ($link && $word eq 'enquire') {
        $link->enquire_link(async => 1);
    } elsif ($link && $word eq 'raw') {
        syswrite $link, pack('H*', $with[0]);
    } elsif ($link && $word eq 'unbind') {
        $link->unbind(async => 1);
    }
    say_line('told', $word);
}

while (1) {
    for my $ready ($select->can_read) {
        if ($ready == $listener) {
            my $new = $listener->accept or next;
            drop();
            $link = $new;
            $select->add($link);
        } elsif ($link && $ready == $link) {
            received();
        } else {
            # Standard input ends with the test.
            sysread(STDIN, $typed, 4096, length $typed) or exit;
            while ($typed =~ s/^(.*)\n//) { told($1) }
        }
    }
}
