"""HTML reports that open anywhere: one file, no network, light and dark, phone and desk."""
