#!/usr/bin/env perl
# A worker without any library: the NATS text protocol over a socket. Only modules that come with Perl.
# NATS_HOST=127.0.0.1 NATS_PORT=4222 NODE_ID=perl-worker perl examples/worker.pl
use strict;
use warnings;
use IO::Socket::INET;
use JSON::PP;

my $node = $ENV{NODE_ID}   // 'perl-worker';
my $host = $ENV{NATS_HOST} // '127.0.0.1';
my $port = $ENV{NATS_PORT} // 4222;
my $json = JSON::PP->new->utf8;
my ( $socket, $leaving );
$SIG{TERM} = $SIG{INT} = sub { $leaving = 1 };
$SIG{PIPE} = 'IGNORE';

sub publish {
    my ( $subject, $message ) = @_;
    my $body = $json->encode($message);
    print $socket "PUB $subject " . length($body) . "\r\n$body\r\n";
}

# Who this is, and for whom it works: `fenced` promises node_id and attempt in every report.
sub announce {
    publish( 'compute.nodes.announce.v1', {
        node_id => $node, hostname => $node, heartbeat_seconds => 5, slots => 1,
        work_types => $leaving ? [] : ['reverse'], fenced => JSON::PP::true,
    } );
}

sub work {
    my ($item) = @_;
    return if ( $item->{node_id} // '' ) ne $node;    # everybody hears every assignment
    my %about = ( work_id => $item->{work_id}, node_id => $node, attempt => $item->{attempt} );
    my $text  = $item->{payload}{text};
    if ( !defined $text || ref $text ) {
        publish( 'compute.work.failed.v1',
            { %about, error => 'text is missing', retryable => JSON::PP::false } );
        return;
    }
    publish( 'compute.work.completed.v1', { %about, result => { text => scalar reverse "$text" } } );
}

# Lines and messages as they come; a heartbeat whenever five seconds have passed.
sub serve {
    my ( $buffer, $beat_at ) = ( '', 0 );
    print $socket 'CONNECT {"verbose":false,"pedantic":false,"lang":"perl","version":"1","name":"' . $node . '"}' . "\r\n";
    print $socket "SUB compute.work.assigned.v1 1\r\nSUB compute.nodes.reannounce.v1 2\r\n";
    announce();
    until ($leaving) {
        if ( time >= $beat_at ) {
            publish( 'compute.nodes.heartbeat.v1', { node_id => $node } );
            $beat_at = time + 5;
        }
        $socket->flush;
        my $ready = '';
        vec( $ready, fileno $socket, 1 ) = 1;
        next unless select( $ready, undef, undef, 0.5 ) > 0;
        return unless sysread $socket, $buffer, 65536, length $buffer;
        while ( $buffer =~ /^([^\r\n]*)\r\n/ ) {
            my ( $line, $from ) = ( $1, $+[0] );
            if ( $line =~ /^MSG (\S+) \S+ (?:\S+ )?(\d+)$/ ) {
                last if length($buffer) < $from + $2 + 2;    # the rest is still to come
                my ( $subject, $message ) = ( $1, eval { $json->decode( substr $buffer, $from, $2 ) } );
                $from += $2 + 2;
                if    ( ref $message ne 'HASH' )         { }    # not ours to judge
                elsif ( $subject =~ /assigned/ )         { work($message) }
                else                                     { announce() }
            }
            elsif ( $line eq 'PING' )      { print $socket "PONG\r\n" }
            elsif ( $line =~ /^-ERR (.*)/ ) { warn "nats: $1\n" }
            substr $buffer, 0, $from, '';
        }
    }
    announce();    # no work types: no more work is given here
    $socket->flush;
}

until ($leaving) {
    $socket = IO::Socket::INET->new( PeerAddr => $host, PeerPort => $port, Timeout => 2 );
    serve() if $socket;
    select( undef, undef, undef, 0.25 ) unless $leaving;    # NATS is away: it comes back
}
