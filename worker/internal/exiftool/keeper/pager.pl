# Makes ExifTool read files of which not all is there (see page.go): whatever is about to be read is asked for first. It also
# takes rights from ExifTool, and mends what it does wrong with any file.
#
# ExifTool opens files with Image::ExifTool::Open and reads them through File::RandomAccess only. Archive::Zip, which
# reads on its own, is hidden from it while such a file is open.
package Reshelf::Paged;

use strict;
use warnings;
no warnings qw(redefine prototype once);

our @ISA = ('File::RandomAccess');
@Reshelf::Whole::ISA = @ISA;

my $longest = 1 << 20;    # of one question, in bytes
my $zip     = 'Archive/Zip.pm';
my ($folder) = __FILE__ =~ m{^(.*)/};
my ($open, $new) = (\&Image::ExifTool::Open, \&File::RandomAccess::new);

open(my $questions, '>&=', 4) or die "paging: $!\n";
open(my $answers,   '<&=', 5) or die "paging: $!\n";

my $paged;             # descriptor of the file opened last, if it is one of which not all is there
my $zip_from;          # where Archive::Zip was loaded from
my ($from, $to);       # what is there around the last question
my ($size, $failed);

# From here on this process starts no other and touches none (see toolFilter); all that it runs has been started. Where
# the kernel has no such filter, the keeper has said so.
{
    local $/ = "\n";
    open(my $calls, '<:raw', "$folder/calls") or die "paging: $!\n";
    my $prctl  = <$calls>;
    my $filter = do { local $/; <$calls> };
    my $program = pack 'S x![P] P', length($filter) / 8, $filter;
    syscall(0 + $prctl, 22, 2, $program);    # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
}

# ExifTool begins to read a file with the byte order that the last one has left behind, and some formats do not set their own.
my @order  = ($Image::ExifTool::swapBytes, $Image::ExifTool::swapWords, $Image::ExifTool::currentByteOrder);
my %unpack = %Image::ExifTool::unpackStd;

*Image::ExifTool::Open = sub {
    ($Image::ExifTool::swapBytes, $Image::ExifTool::swapWords, $Image::ExifTool::currentByteOrder) = @order;
    %Image::ExifTool::unpackStd = %unpack;
    my $opened = &$open;
    $paged = $opened && $_[2] =~ m{^\Q$folder\E/paged/[^/]+\z} ? fileno $_[1] : undef;
    return $opened;
};

*File::RandomAccess::new = sub {
    my $raf  = &$new;
    my $file = $$raf{FILE_PT};
    my $fd   = $file ? fileno $file : undef;
    return $raf unless defined $fd and $fd >= 0;
    if (defined $paged and $fd == $paged) {
        $zip_from = $INC{$zip} if defined $INC{$zip};
        $INC{$zip} = undef;
        ($from, $to, $size, $failed) = (0, 0, -s $file, 0);
        ask(0, 0);
        return bless $raf, __PACKAGE__;
    }
    if (exists $INC{$zip} and not defined $INC{$zip}) {
        delete $INC{$zip};
        $INC{$zip} = $zip_from if defined $zip_from;
    }
    return bless $raf, 'Reshelf::Whole';
};

# ExifTool takes an error of reading for the end of the file, and says of a disk that fails that the file is empty.
sub Reshelf::Whole::Read {
    my $length = $_[2];
    $! = 0;
    my $n = &File::RandomAccess::Read;    # takes the object off @_
    check() if $! and $n < $length;
    return $n;
}

sub Reshelf::Whole::ReadLine {
    $! = 0;
    my $n = &File::RandomAccess::ReadLine;
    check() if $! and (not $n or defined $/ and substr($_[0], -1) ne substr $/, -1);
    return $n;
}

sub check {
    return if $! == 4;    # EINTR: Perl has read on
    print STDERR "reading failed: $!\n";
    exit 1;
}

sub Read {
    my ($raf, undef, $length) = @_;
    if ($length <= $longest) {
        return &Reshelf::Whole::Read if need($raf, $length);
        $_[1] = '';
        return 0;
    }
    my ($all, $part) = ('', '');
    while ($length > 0) {
        my $n = Read($raf, $part, $length < $longest ? $length : $longest) or last;
        $all .= $part;
        $length -= $n;
    }
    $_[1] = $all;
    return length $all;
}

# ReadLine keeps what it has read beyond a line for the next one: some formats are nothing but short lines.
sub ReadLine {
    my ($raf) = @_;
    my $end = $/;
    die "paging: no such end of line\n" if defined $end and (ref $end or $end eq '');
    my ($start, $line, $part, $length) = (tell $$raf{FILE_PT}, '', '', 1024);
    my $skip = defined $end && defined $$raf{AHEAD} ? $start - $$raf{AHEAD_AT} : -1;
    if ($skip >= 0 and $skip < length $$raf{AHEAD}) {
        my $at = index $$raf{AHEAD}, $end, $skip;
        if ($at >= 0) {
            $_[1] = substr $$raf{AHEAD}, $skip, $at - $skip + length $end;
            seek $$raf{FILE_PT}, $start + length $_[1], 0;
            return length $_[1];
        }
        $length = 16384;
    }
    while (Read($raf, $part, $length)) {
        my $seen = length $line;
        $line .= $part;
        if (defined $end) {
            my $at = $seen < length $end ? 0 : $seen - length($end) + 1;
            $at = index $line, $end, $at;
            if ($at >= 0) {
                @$raf{qw(AHEAD AHEAD_AT)} = ($line, $start);
                $line = substr $line, 0, $at + length $end;
                last;
            }
        }
        $length *= 2 if $length < 65536;
    }
    $_[1] = length $line ? $line : undef;
    seek $$raf{FILE_PT}, $start + length $line, 0;
    return length $line;
}

# Slurp puts the rest of the file into the buffer.
sub Slurp {
    my ($raf) = @_;
    my $part = '';
    while (my $n = Read($raf, $part, $longest)) {
        ${$$raf{BUFF_PT}} .= $part;
        $$raf{LEN} += $n;
    }
}

# need sees to it that the next bytes are there. It is false once bytes could not be had: the answer will not be used.
sub need {
    my ($raf, $length) = @_;
    my $file = $$raf{FILE_PT};
    my $at   = tell $file;
    my $end  = $at + $length < $size ? $at + $length : $size;
    return not $failed if $end <= $at or $at >= $from and $end <= $to;
    ask($at, $end - $at);
    seek $file, $at, 0;    # what is buffered may be from before
    return not $failed;
}

# ask ends the process where it gets no answer: only of a failure that the keeper tells us of do others know.
sub ask {
    my ($at, $length) = @_;
    return if $failed;
    my ($question, $answer) = ("$at $length\n", '');
    (syswrite($questions, $question) // 0) == length $question or exit 1;
    until ($answer =~ /\n/) {
        my $n = sysread $answers, $answer, 64, length $answer;
        $n or not defined $n and $! == 4 or exit 1;    # EINTR: ExifTool has a handler for SIGCONT
    }
    if ($answer =~ /^(\d+) (\d+)\n\z/) {
        ($from, $to) = ($1, $2);
    } elsif ($answer eq "failed\n") {
        $failed = 1;
    } else {
        exit 1;
    }
}

require "$folder/faster.pl";

1;
