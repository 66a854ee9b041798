# Spares ExifTool work without changing its answers. Each part was compared with the answers of the versions that it names, over all
# files of the corpus; other versions are left as they are.

# compile makes what ExifTool would evaluate: in its package, with none of the pragmas below.
package Image::ExifTool;
use strict;
sub Reshelf::Faster::compile { return eval $_[0] }

package Reshelf::Faster;

use strict;
use warnings;
no warnings qw(redefine prototype once);

our @taken;      # the parts that are in use, for the tests
our $settled;    # is true while tags are only added, and each under a new number
my $version = $Image::ExifTool::VERSION;
my $source;      # of Image::ExifTool

# The names of all tags: how many, the number of the last one found, and all in small letters, each between newlines.
my ($count, $found, $names) = (-1, 0);

if ($version eq '12.57' or $version eq '13.59') {
    # Of the groups of a tag the answer wants only that of family 1; ExifTool makes them all.
    my $group = \&Image::ExifTool::GetGroup;
    *Image::ExifTool::GetGroup = sub {
        goto &$group unless defined $_[2] and $_[2] eq '1';
        my ($self, $tag) = @_;
        my $info = $$self{TAG_INFO}{$tag};    # not of a reference
        goto &$group unless $info and $$info{GotGroups};
        my $extra = $$self{TAG_EXTRA}{$tag};
        my $dynamic = $extra && $$extra{G1} or return $$info{Groups}{1} || '';
        return $dynamic =~ /^\+(.*)/ ? "$$info{Groups}{1}$1" : $dynamic;
    };
    push @taken, 'group';

    # Tags are sorted by groups, in the order in which these begin.
    push @taken, 'sorted' if change(
        'GetTagList',
        qr/my \(%groupCount, (?=%groupOrder\);)/ => 'my (@members, %groupCount, ',
        qr/(?=\$groupOrder\{\$tag\} = \$num;)/ => 'push @{$members[$num]}, $tag; ',
        qr/return sort \{ \$groupOrder\{\$a\} <=> \$groupOrder\{\$b\} or\s+\$\$fileOrder[^;]+;/ => 'return map { $_ ? @$_ : () } @members;',
    );

    # JSON has no descriptions of tags; ExifTool makes them all the same.
    *Image::ExifTool::GetDescription = sub { '' };
    push @taken, 'description';

    # Of the Composite tags most require a tag that the file does not have and that no Composite tag can bring; all are sorted
    # and named again for each file. (The function looks into %compositeID, which cannot be reached from here, but does nothing
    # with what it finds.)
    push @taken, 'composite' if change(
        'BuildCompositeTags',
        qr/my \@tagList = sort keys %\$compTable;/ =>
            'my %compositeID; my ($required, $sorted, $names) = Reshelf::Faster::required($compTable); my @tagList = @$sorted;',
        qr/foreach \(\@tagList\)(?= \{)/ => '%notBuilt = %$names if @tagList == @$sorted; foreach (%notBuilt ? () : @tagList)',
        qr/(?=next if \$specialTags\{\$tag\};)/ =>
            'next if $$required{$tag} and grep { not defined $$rawValue{$_} and not $$self{DUPL_TAG}{$_} } @{$$required{$tag}}; ',
    );

    # Most tags have one description, without a condition. Conditions are evaluated time and again, and compiled each time.
    if (change(
        'GetTagInfo',
        qr/unless \(eval \$condition\)(?= \{)/ => 'my $code = $Reshelf::Faster::condition{$condition};
            $code = Reshelf::Faster::condition($condition) unless defined $code;
            unless ($code ? eval { &$code($self, $valPt, $format, $count) } : eval $condition) ',
    )) {
        my $tag = \&Image::ExifTool::GetTagInfo;
        *Image::ExifTool::GetTagInfo = sub {
            my $info = $_[1]{$_[2]};
            goto &$tag if ref $info ne 'HASH' or $$info{Condition} or $$info{Unknown} or $Image::ExifTool::specialTags{$_[2]};
            return $info;
        };
        push @taken, 'condition';
    }
}

if ($version eq '12.57' or $version eq '13.59') {
    # Conversions are compiled for each value. (What is found without a description of its own gets the groups of ExifTool.)
    push @taken, 'conversion' if change(
        'GetValue',
        qr/\$value = (?=eval \$conv;)/ => 'my $code = $Reshelf::Faster::conversion{$conv};
            $code = Reshelf::Faster::conversion($conv) unless defined $code;
            $value = $code ? eval { &$code($self, $val, \@val, \@prt, \@raw) } : ',
    ) and change(
        'FoundTag',
        qr/(?=    my \(\$self, \$tagInfo, \$value, \@grps\))/ => 'my %allGroupsExifTool = (0 => "ExifTool", 1 => "ExifTool", 2 => "ExifTool"); ',
        qr/\$value = (?=eval \$conv;)/ => 'my $code = $Reshelf::Faster::raw{$conv};
            $code = Reshelf::Faster::raw($conv) unless defined $code;
            $value = $code ? eval { &$code($self, $val, $tag, $tagInfo, \@val, \@grps) } : ',
    );
}

# ExifTool 13.59 looks for a tag that a file does not have by comparing its name, as a regular expression, with those of all tags
# that it has. It does so a thousand times and more for each file: for the tags that Composite tags might be made of, and for each
# field of a structure, where it looks for the address of the field's description.
if ($version eq '13.59') {
    my ($info, $build, $value) = (\&Image::ExifTool::GetInfo, \&Image::ExifTool::BuildCompositeTags, \&Image::ExifTool::GetValue);
    *Image::ExifTool::GetInfo = sub {
        local $settled = 1;
        $count = -1;
        return &$info;
    };
    *Image::ExifTool::BuildCompositeTags = sub {
        local $settled = 1;
        $count = -1;
        return &$build;
    };
    *Image::ExifTool::GetValue = sub {
        my ($self, $tag, $type, $field) = @_;
        if (ref $tag) {
            goto &$value unless ref $field ne 'HASH' and alone($tag);
            local $$self{VALUE} = {};
            return &$value;
        }
        goto &$value if not $settled or defined $$self{VALUE}{$tag} or $tag !~ /^[\w-]+\z/;
        goto &$value if defined $type and ($type eq 'Rational' or $type eq 'Bin');
        name_tags($self) if $count != keys %{$$self{VALUE}} or $found != $$self{NUM_FOUND};
        goto &$value if index($names, "\n" . lc($tag) . "\n") >= 0;
        return ();
    };
    push @taken, 'absent';
}

# ExifTool looks for a module again for each file, in all folders, where it is not installed.
if ($version eq '13.59' and not eval { require File::StatX }) {
    $INC{'File/StatX.pm'} = undef;
    push @taken, 'module';
}

if ($version eq '12.57' or $version eq '13.59') {
    # Most values are what they are, or names of numbers. Those that Composite tags are made of are kept, or not there.
    my $value = \&Image::ExifTool::GetValue;
    *Image::ExifTool::GetValue = sub {
        my ($self, $tag, $type) = @_;
        goto &$value if ref $tag or index($tag, ':') >= 0;
        my $raw = $$self{VALUE}{$tag};
        my ($options, $info) = @$self{qw(OPTIONS TAG_INFO)};
        if (defined $type and $type eq 'Both') {
            return () if not defined $raw and index($tag, ' ') >= 0;
            my $both = $$self{BOTH}{$tag};
            goto &$value if not $both or not defined $raw or ref $raw and $$info{$tag}{Struct} or $$self{ESCAPE_PROC} or $$options{Filter};
            return (defined $$both[0] ? $$both[0] : $$both[1], $$both[1]);
        }
        goto &$value if not defined $raw or ref $raw or $$self{BOTH}{$tag} or $$self{ESCAPE_PROC} or $$self{CUR_LANG};
        $type = $$options{PrintConv} ? 'PrintConv' : 'ValueConv' unless $type;
        goto &$value unless $type eq 'PrintConv' or $type eq 'ValueConv';
        $info = $$info{$tag};
        goto &$value if defined $$info{ValueConv} or $$info{Binary} or $$options{Filter};
        return $raw if $type eq 'ValueConv';
        my $named = $$info{PrintConv};
        unless (defined $named) {
            goto &$value if defined $$info{Table}{PRINT_CONV} and not exists $$info{PrintConv};
            return $raw;
        }
        goto &$value if ref $named ne 'HASH';
        $named = $$named{$raw};
        goto &$value if not defined $named or ref $named;
        return $named;
    };
    push @taken, 'plain';

    # Numbers are read one by one, through four functions.
    my $unpack = \%Image::ExifTool::unpackStd;
    *Image::ExifTool::Get8u  = sub ($$) { unpack($_[1] ? "x$_[1] C" : 'C', ${$_[0]}) };
    *Image::ExifTool::Get16u = sub ($$) { unpack($_[1] ? "x$_[1] $$unpack{S}" : $$unpack{S}, ${$_[0]}) };
    *Image::ExifTool::Get32u = sub ($$) { unpack($_[1] ? "x$_[1] $$unpack{L}" : $$unpack{L}, ${$_[0]}) };
    my %bytes = (int8u => 1, int16u => 2, int32u => 4);
    my %letter = (int8u => 'C', int16u => 'S', int32u => 'L');
    my $read = \&Image::ExifTool::ReadValue;
    *Image::ExifTool::ReadValue = sub ($$$;$$$) {
        my ($data, $offset, $format, $number, $size) = @_;
        goto &$read unless $number and $number > 0 and $bytes{$format} and $offset >= 0;
        my $length = $bytes{$format} * $number;
        goto &$read if $offset + $length > length $$data or defined $size and $length > $size;
        my $template = "x$offset $$unpack{$letter{$format}}$number";
        return unpack $template, $$data if wantarray or $number == 1;
        return join ' ', unpack $template, $$data;
    };
    push @taken, 'numbers';
}

undef $source;

# Most values are numbers, or texts that need no escape. (The functions of the program itself are not there before.)
INIT {
    if (($version eq '12.57' or $version eq '13.59') and defined &main::FormatJSON) {
        my $format = \&main::FormatJSON;
        *main::FormatJSON = sub ($$$;$) {
            my ($file, $value, undef, $quote) = @_;
            goto &$format if not defined $value or ref $value;
            if ($value =~ /^[\x20-\x7e]+\z/ and $value !~ /["\$\\]/ and ($quote or $value !~ /^[-\dtf]/i)) {
                print $file qq("$value");
            } elsif (not $quote and $value =~ /^-?(?:[0-9]|[1-9][0-9]{1,14})(?:\.[0-9]{1,16})?\z/) {
                print $file $value;
            } else {
                goto &$format;
            }
        };
        push @taken, 'json';
    }
}

# alone tells whether no conversion of a field can look at other tags or bring a warning, which is a tag: none is code.
sub alone {
    my ($field) = @_;
    my $table = $$field{Table} ? $$field{Table}{PRINT_CONV} : undef;
    foreach (@$field{qw(ValueConv PrintConv)}, $table) {
        next unless defined;
        return 0 unless ref eq 'HASH' and not $$_{OTHER};
    }
    return 1;
}

sub name_tags {
    my ($self) = @_;
    my $values = $$self{VALUE};
    ($count, $found) = (scalar keys %$values, $$self{NUM_FOUND});
    $names = lc join "\n", '', keys(%$values), '';
}

# required are, of all Composite tags, the tags that each cannot do without and that are not made by a Composite tag; and their order
# and names.
{
    my ($count, $required, $sorted, $names) = (-1);    # the table grows with each module that is loaded

    sub required {
        my ($table) = @_;
        return ($required, $sorted, $names) if $count == keys %$table;
        ($count, $required, $sorted) = (scalar keys %$table, {}, [sort keys %$table]);
        my @tags = grep { not $Image::ExifTool::specialTags{$_} and ref $$table{$_} eq 'HASH' } @$sorted;
        $names = {map { $$table{$_}{Name}, 1 } @tags};
        foreach my $tag (@tags) {
            my $require = $$table{$tag}{Require};
            next unless ref $require eq 'HASH';
            # of any group: a name says nothing of the groups of the tags that have it
            my @names = grep { /^(?:\w+:)*(\w+)\z/ and not $$names{$1} } values %$require;
            $$required{$tag} = [map { /(\w+)\z/ } @names] if @names;
        }
        return ($required, $sorted, $names);
    }
}

# condition, conversion and raw are the code of such a text, once it comes for the second time, or 0 where it may use more than what it
# is given: of variables Perl knows only these and the global ones there, and what else depends on the place is refused. Code keeps
# nothing between two calls.
our (%condition, %conversion, %raw);
my %once;
sub condition  { return code(\%condition,  $_[0], '$self, $valPt, $format, $count') }
sub conversion { return code(\%conversion, $_[0], '$self, $val', qw(val prt raw)) }
sub raw        { return code(\%raw, $_[0], '$self, $val, $tag, $tagInfo', qw(val grps)) }

sub code {
    my ($known, $text, $scalars, @arrays) = @_;
    # ExifTool makes some texts of what is in files
    return 0 if keys %once >= 4000 or length $text > 4000 or not $once{$text}++;
    # functions of modules that are still to be loaded may bring prototypes
    foreach ($text =~ /\b((?:\w+::)+\w+)\s*\(/g) { no strict 'refs'; return 0 unless defined &$_ }
    $$known{$text} = 0;
    return 0 if $text =~ /\@_|\$_\[|\$#_|\b(?:shift|pop|goto|wantarray|caller|local|our|state|sub|eval|require|__\w+__)\b|&\w+\s*;/
        or $text =~ /(?:^|[;{])\s*(?:use|no)\b/m
        or $text =~ /\$tag(?:Info)?\s*(?:=[^=~>]|\W=)/;
    my $given = "my ($scalars) = \@_;";
    my $names = join '|', @arrays;
    if (@arrays and $text =~ /(?:\@|\$#)(?:$names)\b|\$(?:$names)\[/) {    # the arrays themselves: they may be changed
        my $from = () = $scalars =~ /\$/g;
        $given .= ' local (' . join(', ', map { "*$_" } @arrays) . ") = \@_[$from .. \$#_];";
        $given .= ' our (' . join(', ', map { "\@$_" } @arrays) . ');';
    }
    my $words;
    local ($_, $@);
    local $SIG{__WARN__} = sub { $words = 1 };
    my $code = compile("sub { $given\n$text\n}");
    return $$known{$text} = $words ? 0 : $code || 0;
}

# change replaces what the expressions match, each in one place of a function of Image::ExifTool, by text and what was there. It changes
# nothing, and is false, where the function is not what it was.
sub change {
    my ($name, %replace) = @_;
    unless (defined $source) {
        open(my $file, '<', $INC{'Image/ExifTool.pm'}) or return 0;
        local $/;
        $source = <$file>;
    }
    my $at = 1 + index $source, "\nsub $name(" or return 0;
    my $function = substr $source, $at, 3 + index($source, "\n}\n", $at) - $at;
    while (my ($from, $to) = each %replace) {
        return 0 unless 1 == (() = $function =~ /$from/g);
        $function =~ s/$from/$to/;
    }
    local $SIG{__WARN__} = sub { };    # of what is redefined; the function itself may warn as it did
    return defined compile("$function 1");
}

1;
