# Spares ExifTool work without changing its answers. Each part was compared with the answers of the versions that it names, over all
# files of the corpus; other versions are left as they are.
package Reshelf::Faster;

use strict;
use warnings;
no warnings qw(redefine prototype once);

our @taken;    # the parts that are in use, for the tests
my $version = $Image::ExifTool::VERSION;

# ExifTool 13.59 looks for a tag that a file does not have by comparing its name, as a regular expression, with those of all tags
# that it has. It does so a thousand times and more for each file: for the tags that Composite tags might be made of while it puts
# its answer together (it finds no more tags then, so one look at all names does as well), and for each field of a structure,
# where it looks for the address of the field's description.
if ($version eq '13.59') {
    my ($info, $value) = (\&Image::ExifTool::GetInfo, \&Image::ExifTool::GetValue);
    our $answering;
    my ($count, %names);    # of tags; the names that are equal but for their case, each with a newline after it

    *Image::ExifTool::GetInfo = sub {
        local $answering = 1;
        $count = -1;
        return &$info;
    };

    *Image::ExifTool::GetValue = sub {
        my ($self, $tag, $type, $field) = @_;
        if (ref $tag) {
            goto &$value unless ref $field ne 'HASH' and alone($tag);
            local $$self{VALUE} = {};
            return &$value;
        }
        goto &$value if not $answering or defined $$self{VALUE}{$tag} or $tag !~ /^[\w-]+\z/;
        goto &$value if defined $type and ($type eq 'Rational' or $type eq 'Bin');
        my $values = $$self{VALUE};
        if ($count != keys %$values) {
            $count = keys %$values;
            %names = ();
            $names{lc $_} .= "$_\n" foreach keys %$values;
        }
        my $found = $names{lc $tag};
        goto &$value if defined $found and $found ne "$tag\n";
        return ();
    };
    push @taken, 'absent';
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
        qr/^( +)next if \$specialTags\{\$tag\};\n/m,
        'my (%compositeID, $required); $required = Reshelf::Faster::required($compTable);',
        'next if $$required{$tag} and grep { not defined $$rawValue{$_} and not $$self{DUPL_TAG}{$_} } @{$$required{$tag}};',
    );
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

# change puts a line into a function of Image::ExifTool after the one place where $after is, and one at its start. It changes nothing,
# and is false, where the function is not what it was.
sub change {
    my ($name, $after, $first, $then) = @_;
    open(my $file, '<', $INC{'Image/ExifTool.pm'}) or return 0;
    my $source = do { local $/; <$file> };
    my ($function) = $source =~ /^(sub $name\b[^{;]*\n\{\n.*?^\}\n)/ms or return 0;
    return 0 unless 1 == (() = $function =~ /$after/g);
    $function =~ s/$after/$&$1$then\n/;
    $function =~ s/^(    my \@tagList\b)/    $first\n$1/m or return 0;
    return defined eval "package Image::ExifTool; use strict; no warnings; $function 1";
}

1;
