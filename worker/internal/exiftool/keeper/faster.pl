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

# The names of all tags: how many, the number of the last one found, and those that are equal but for their case, each with a newline
# after it.
my ($count, $found, %names) = (-1, 0);

if ($version eq '12.57' or $version eq '13.59') {
    # Of the groups of a tag the answer wants only that of family 1; ExifTool makes them all.
    my $group = \&Image::ExifTool::GetGroup;
    *Image::ExifTool::GetGroup = sub {
        my ($self, $tag, $family) = @_;
        goto &$group unless defined $family and $family eq '1' and not ref $tag;
        my $info = $$self{TAG_INFO}{$tag};
        goto &$group unless $info and $$info{GotGroups};
        my $extra = $$self{TAG_EXTRA}{$tag};
        my $dynamic = $extra && $$extra{G1};
        return $$info{Groups}{1} || '' unless $dynamic;
        return $dynamic =~ /^\+(.*)/ ? "$$info{Groups}{1}$1" : $dynamic;
    };
    push @taken, 'group';

    # JSON has no descriptions of tags; ExifTool makes them all the same.
    *Image::ExifTool::GetDescription = sub { '' };
    push @taken, 'description';

    # Of some 200 Composite tags most require a tag that the file does not have and that no Composite tag can bring. (The
    # function looks into %compositeID, which cannot be reached from here, but does nothing with what it finds.)
    push @taken, 'composite' if change(
        'BuildCompositeTags',
        qr/^(?=    my \@tagList\b)/m => 'my (%compositeID, $required); $required = Reshelf::Faster::required($compTable); ',
        qr/(?<=next if \$specialTags\{\$tag\};)/ =>
            ' next if $$required{$tag} and grep { not defined $$rawValue{$_} and not $$self{DUPL_TAG}{$_} } @{$$required{$tag}}; ',
    );

    # Most tags have one description, without a condition. Conditions are evaluated time and again, and compiled each time.
    if (change(
        'GetTagInfo',
        qr/unless \(eval \$condition\)(?= \{)/ => 'my $code = Reshelf::Faster::condition($condition);
            unless ($code ? eval { &$code($self, $valPt, $format, $count) } : eval $condition) ',
    )) {
        my $tag = \&Image::ExifTool::GetTagInfo;
        *Image::ExifTool::GetTagInfo = sub {
            my (undef, $table, $id) = @_;
            my $info = $$table{$id};
            goto &$tag if ref $info ne 'HASH' or $$info{Condition} or $$info{Unknown} or $Image::ExifTool::specialTags{$id};
            return $info;
        };
        push @taken, 'condition';
    }
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
        my $known = $names{lc $tag};
        goto &$value if defined $known and $known ne "$tag\n";
        return ();
    };
    push @taken, 'absent';
}

if ($version eq '12.57' or $version eq '13.59') {
    # Most values are what they are, or names of numbers.
    my $value = \&Image::ExifTool::GetValue;
    *Image::ExifTool::GetValue = sub {
        my ($self, $tag, $type) = @_;
        goto &$value if ref $tag or index($tag, ':') >= 0;
        my $raw = $$self{VALUE}{$tag};
        goto &$value if not defined $raw or ref $raw or $$self{BOTH}{$tag} or $$self{ESCAPE_PROC} or $$self{CUR_LANG};
        my ($options, $info) = @$self{qw(OPTIONS TAG_INFO)};
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
    %names = ();
    $names{lc $_} .= "$_\n" foreach keys %$values;
}

# required are the tags, of those that are not made by a Composite tag, that each Composite tag cannot do without.
{
    my ($count, $required) = (-1);    # the table grows with each module that is loaded

    sub required {
        my ($table) = @_;
        return $required if $count == keys %$table;
        ($count, $required) = (scalar keys %$table, {});
        my @tags = grep { not $Image::ExifTool::specialTags{$_} and ref $$table{$_} eq 'HASH' } keys %$table;
        my %composite = map { $$table{$_}{Name}, 1 } @tags;
        foreach my $tag (@tags) {
            my $names = $$table{$tag}{Require};
            next unless ref $names eq 'HASH';
            # of any group: a name says nothing of the groups of the tags that have it
            my @names = grep { /^(?:\w+:)*(\w+)\z/ and not $composite{$1} } values %$names;
            $$required{$tag} = [map { /(\w+)\z/ } @names] if @names;
        }
        return $required;
    }
}

# condition is the code of a condition, or false where it may use more than what it is given.
{
    my %code;

    sub condition {
        my ($text) = @_;
        return $code{$text} if defined $code{$text};
        $code{$text} = 0;
        return 0 if $text =~ /\@_|\$_\b|\$#|\b(?:return|wantarray|caller|local|my|our|state|sub|eval)\b/;
        my %used = map { $_, 1 } $text =~ /[\$\@%&]\s*(?:\{\s*)?(?:\$\s*)*\^?(\w+)/g;
        delete @used{qw(self valPt format count), 0 .. 9};
        return 0 if %used;
        return $code{$text} = compile("sub { my (\$self, \$valPt, \$format, \$count) = \@_;\n$text\n}") || 0;
    }
}

# change replaces what the expressions match, each in one place of a function of Image::ExifTool, by text and what was there. It changes
# nothing, and is false, where the function is not what it was.
sub change {
    my ($name, %replace) = @_;
    open(my $file, '<', $INC{'Image/ExifTool.pm'}) or return 0;
    my $source = do { local $/; <$file> };
    my ($function) = $source =~ /^(sub $name\b[^{\n]*\n\{\n.*?^\}\n)/ms or return 0;
    while (my ($from, $to) = each %replace) {
        return 0 unless 1 == (() = $function =~ /$from/g);
        $function =~ s/$from/$to/;
    }
    return defined compile("no warnings; $function 1");
}

1;
