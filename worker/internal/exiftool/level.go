package exiftool

import (
	"fmt"
	"slices"
	"time"

	"github.com/reshelf/reshelf/shared/batch"
)

// readArgs are the flags that every level has: JSON, family-1 groups, structures kept, files above 4 GB (off by default
// before ExifTool 12.90).
var readArgs = []string{"-j", "-G1", "-struct", "-api", "LargeFileSupport=1"}

// levelArgs are ExifTool's arguments for a level. They are constants of this package: never anything from data.
func levelArgs(level batch.Level) ([]string, error) {
	switch level {
	case batch.LevelFast:
		args := append(slices.Clone(readArgs), "-fast", "-Error", "-Warning")
		for _, t := range fastTags {
			args = append(args, "-"+t)
		}
		return args, nil
	case batch.LevelNormal:
		return slices.Clone(readArgs), nil
	case batch.LevelExtended:
		return append(slices.Clone(readArgs), "-ee", "-a", "-u"), nil
	}
	return nil, fmt.Errorf("exiftool: no metadata is read at level %q", level)
}

// FastTags are the names, without groups, of the tags that level fast reads: those that names and the catalogue's
// columns are made of.
func FastTags() []string { return slices.Clone(fastTags) }

var fastTags = []string{
	"ExifToolVersion", "FileType", "FileTypeExtension", "MIMEType", "FileSize", "FileModifyDate",
	// time
	"DateTimeOriginal", "SubSecDateTimeOriginal", "SubSecTimeOriginal", "OffsetTimeOriginal",
	"CreateDate", "SubSecCreateDate", "SubSecTimeDigitized", "OffsetTimeDigitized", "DateTimeDigitized",
	"ModifyDate", "SubSecModifyDate", "SubSecTime", "OffsetTime", "TimeZone", "TimeZoneOffset",
	"CreationDate", "ContentCreateDate", "MediaCreateDate", "TrackCreateDate", "DateTimeCreated", "DateCreated",
	"TimeCreated", "CreationDateValue", "DigitalCreationDate", "DigitalCreationTime", "DateAcquired", "DateTime", "CreationTime", "Date",
	"GPSDateTime", "GPSDateStamp", "GPSTimeStamp",
	// camera
	"Make", "Model", "CameraModelName", "UniqueCameraModel", "SerialNumber", "InternalSerialNumber",
	"CameraSerialNumber", "BodySerialNumber", "AndroidMake", "AndroidModel", "AndroidManufacturer",
	"Lens", "LensModel", "LensID", "LensInfo", "LensType", "LensMake", "LensSerialNumber",
	// shape and length
	"ImageWidth", "ImageHeight", "ExifImageWidth", "ExifImageHeight", "SourceImageWidth", "SourceImageHeight",
	"ImageSize", "Orientation", "Rotation", "Duration", "MediaDuration", "TrackDuration", "PlayDuration",
	// place
	"GPSLatitude", "GPSLatitudeRef", "GPSLongitude", "GPSLongitudeRef", "GPSPosition", "GPSCoordinates", "GPSAltitude",
	// grouping of shots
	"ContentIdentifier", "MediaGroupUUID", "BurstUUID", "ImageUniqueID", "SequenceNumber", "FileNumber", "ImageNumber",
}

// Deadline is the default time for ExifTool's first try at a file of size bytes. It allows for storage that gives
// 20 MB/s and for formats that are read whole; level extended goes through all samples of a video. At most an hour.
func Deadline(size int64, level batch.Level) time.Duration {
	const perSecond = 20 << 20
	base, factor := 20*time.Second, int64(1)
	if level == batch.LevelExtended {
		base, factor = 60*time.Second, 4
	}
	seconds := size / perSecond
	return min(base+time.Duration(min(seconds, 3600)*factor)*time.Second, time.Hour)
}
